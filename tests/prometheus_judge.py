"""Prometheus' own judge of metrics pages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

BUILT = Path(__file__).parents[1] / "build" / "tools" / "promtool"


def _promtool() -> str:
    found = shutil.which("promtool") or (str(BUILT) if BUILT.exists() else None)
    assert found, (
        "promtool is not there: `make test` puts it into build/tools, or install Prometheus so"
        " that it is on the PATH"
    )
    return found


def judged(page: bytes) -> tuple[int, list[str]]:
    """Exit code and complaints of `promtool check metrics`."""
    done = subprocess.run(
        [_promtool(), "check", "metrics"], input=page, capture_output=True, timeout=60, check=False
    )
    return done.returncode, (done.stdout + done.stderr).decode().splitlines()
