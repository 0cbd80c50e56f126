"""The newest versions of the packages in debian.txt, with their hashes, into debian.lock.

Runs inside the builder image, where apt knows the mirrors and checks their signatures:
`make image-lock`. A line is NAME VERSION ARCHITECTURE SHA256, the
architecture `all` where a package has no machine code.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ARCHITECTURES = ("amd64", "arm64")


def wanted(text: str) -> list[str]:
    """Package names, one a line; what follows a # is for people."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def newest(name: str, architecture: str) -> str:
    """The line of one package."""
    # A package for all architectures is not there under the name of a foreign one.
    told = _shown(f"{name}:{architecture}") or _shown(name)
    fields = dict(line.split(": ", 1) for line in told.splitlines() if ": " in line)
    return f"{name} {fields['Version']} {fields['Architecture']} {fields['SHA256']}"


def _shown(package: str) -> str:
    asked = ["apt-cache", "show", "--no-all-versions", package]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout


def main(names: Path, lock: Path) -> None:
    """Write the lock file of the packages named in a file."""
    for architecture in ARCHITECTURES:
        subprocess.run(["dpkg", "--add-architecture", architecture], check=True)
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    lines = {
        newest(name, architecture)
        for name in wanted(names.read_text())
        for architecture in ARCHITECTURES
    }
    lock.write_text("".join(f"{line}\n" for line in sorted(lines)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
