"""Where the programs are that `make test` puts under build/."""

from __future__ import annotations

import shutil
from pathlib import Path

BUILD = Path(__file__).parents[1] / "build"


def tool(name: str) -> str:
    """The path of a program; AssertionError that says how to get it."""
    for folder in (BUILD / "tools", BUILD / "deploy-venv" / "bin"):
        if (folder / name).exists():
            return str(folder / name)
    found = shutil.which(name)
    assert found, f"{name} is not there: `make tools` puts it under build/, or install it"
    return found
