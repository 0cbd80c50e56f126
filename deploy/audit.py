"""Is something known against a package that this project installs? Asks with pip-audit.

    python deploy/audit.py PIP_AUDIT LOCK...

Each lock file is asked about as it is: nothing is resolved or installed. Exit code 1 where
something is known, 2 where the databases of advisories (PyPI's, OSV's) cannot be reached: that is
no answer, and said as such.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SERVICES = ("pypi", "osv")
TIMEOUT = 600.0
"""Seconds for one file and one database."""

UNREACHABLE = (
    *("ConnectionError", "Could not connect", "ServiceError", "timed out", "HTTPError"),
    # What a mirror of PyPI without its advisories comes to.
    "could not be audited",
)


def audited(program: str, lock: str) -> int:
    """0: nothing is known; 1: something is; 2: no database could be asked."""
    hashed = ["--require-hashes"] if "--hash=" in Path(lock).read_text(encoding="utf-8") else []
    for service in SERVICES:
        command = [program, "--strict", "--no-deps", "--disable-pip", *hashed]
        command += ["--vulnerability-service", service, "--requirement", lock]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            continue
        told = done.stdout + done.stderr
        if done.returncode == 0:
            print(f"{lock}: nothing is known (by {service})")
            return 0
        if not any(word in told for word in UNREACHABLE):
            print(f"{lock}: {told.strip()}")
            return 1
    print(f"{lock}: NOT AUDITED: neither database can be reached from here")
    return 2


def main(program: str, locks: Sequence[str]) -> int:
    return max(audited(program, lock) for lock in locks)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
