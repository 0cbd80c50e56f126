"""The memory that the processes of one server share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gearshift.core.quota import SLOTS, Limits, Quotas, Rate
from gearshift.quotas import Table


def test_a_private_one_has_room_for_all_and_a_key_of_its_own():
    first, second = Table.private(), Table.private()
    assert len(first.numbers) == SLOTS
    assert first.numbers[0] == first.numbers[SLOTS - 1] == 0.0
    first.numbers[SLOTS - 1] = 2.5
    assert second.numbers[SLOTS - 1] == 0.0
    assert first.key != second.key


def test_what_one_process_takes_another_has_not():
    table = Table.shared()
    try:
        script = (
            "import sys\n"
            "from gearshift.core.quota import *\n"
            "from gearshift.quotas import Table\n"
            "t = Table.opened(sys.argv[1])\n"
            "q = Quotas(Limits(default=Rate(1.0, 2.0)), t.numbers, t.key)\n"
            "print(q.take('a', 'm', 'c', 2, 50.0))\n"
        )
        told = subprocess.run(
            [sys.executable, "-c", script, table.path], capture_output=True, text=True, check=True
        )
        assert told.stdout == "None\n"
        here = Quotas(Limits(default=Rate(1.0, 2.0)), table.numbers, table.key)
        over = here.take("a", "m", "c", 1, 50.0)
        assert over is not None
        assert over.wait == pytest.approx(1.0)
    finally:
        table.remove()
    assert not Path(table.path).exists()
    table.remove()
