"""The example of a fleet, as it stands: three real servers, two of which are killed."""

from __future__ import annotations

import subprocess
import sys

from serving import ROOT


def test_a_fleet_answers_behind_with_what_is_left_and_in_front_when_nobody_is_there():
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "fleet.py"), "--seconds", "0.5"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    longest = next(cells for cells in lines if cells[:1] == ["1000 ms"])
    assert longest[1:4] == ["behind 100 %", "most_accurate 100 %", "teacher-int8 100 %"]
    assert 0.0 < float(longest[4]) < 1000.0
    alone = [cells for cells in lines if cells[:1] == ["none"]]
    assert len(alone) == 3
    assert all("behind" not in cells[3] and float(cells[2]) > 0 for cells in alone)
