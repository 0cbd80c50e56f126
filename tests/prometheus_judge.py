"""Prometheus' own judge of metrics pages."""

from __future__ import annotations

import subprocess

from tools import tool


def judged(page: bytes) -> tuple[int, list[str]]:
    """Exit code and complaints of `promtool check metrics`."""
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"],
        input=page,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).decode().splitlines()
