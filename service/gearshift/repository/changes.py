"""What has changed in a repository since it was loaded, and loading only that."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gearshift.artifacts import Allowance
from gearshift.core.catalog import Model
from gearshift.errors import Problem, RepositoryInvalid
from gearshift.repository.files import identify, reason
from gearshift.repository.folders import FOREIGN
from gearshift.repository.loader import Inspect, load

MOST_FILES = 10_000
"""Of one folder; what is beyond is not looked at."""

LARGEST = Allowance().artifact
"""Bytes of a file that may be an artifact."""

Stamp = tuple[tuple[str, str, int, int], ...]
"""A folder as the system tells of it: of each file its name, where links lead, size, and time of
modification in nanoseconds. Without inode numbers, which some network volumes make up anew."""


def names(root: Path) -> list[str]:
    """The folders that should be models; none where the root cannot be read."""
    try:
        with os.scandir(root) as entries:
            return sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.name not in FOREIGN and entry.is_dir()
            )
    except OSError:
        return []


def stamp(folder: Path) -> Stamp:
    """How the folder is now; empty for one that is gone. Reads no file."""
    found = []
    for path in _files(folder):
        try:
            status = path.stat()
            real = os.path.realpath(path)
        except OSError:
            continue  # It has just gone, and that is what the next look sees.
        found.append((str(path), real, status.st_size, status.st_mtime_ns))
    return tuple(found)


def stamps(root: Path) -> dict[str, Stamp]:
    """Of all folders that should be models, by name."""
    return {name: stamp(root / name) for name in names(root)}


def content(root: Path, name: str, largest: int = LARGEST) -> str:
    """The SHA-256 (hex) of all files of a model with their names; OSError if one cannot be read.
    Files outside the repository count by name only: they are not loaded. Nor are those of more than
    `largest` bytes, which count by size and time: to read them would take as long as they like."""
    inside = os.path.realpath(root) + os.sep
    digest = hashlib.sha256()
    for path in _files(root / name):
        held = ""
        if os.path.realpath(path).startswith(inside):
            status = path.stat()
            if status.st_size > largest:
                held = f"{status.st_size} {status.st_mtime_ns}"
            elif stat.S_ISREG(status.st_mode):
                held, _ = identify(path)
        digest.update(f"{path.relative_to(root).as_posix()}\0{held}\n".encode())
    return digest.hexdigest()


def contents(root: Path, largest: int = LARGEST) -> dict[str, str]:
    """Of all models, by name, as `content`; one that cannot be read is left out."""
    found = {}
    for name in names(root):
        try:
            found[name] = content(root, name, largest)
        except OSError:
            continue
    return found


def _files(folder: Path) -> Iterator[Path]:
    """All files under the folder but hidden ones, in order, through links."""
    been: set[str] = set()
    count = 0
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in been:
            folders.clear()  # A link to a folder above: its files were named before.
            continue
        been.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                count += 1
                if count > MOST_FILES:
                    return
                yield Path(place, name)


@dataclass(frozen=True, slots=True)
class Changes:
    """What was found different: models loaded anew, names that have no folder any more, and those
    that are as they were. `contents` is what `known` is next time."""

    models: Mapping[str, Model]
    gone: frozenset[str]
    unchanged: frozenset[str]
    contents: Mapping[str, str]
    stamps: Mapping[str, Stamp]

    def check(self, root: Path) -> None:
        """RepositoryInvalid if what was read has changed since it began to be read: then nobody
        knows what was loaded."""
        moved = [name for name in self.models if stamp(root / name) != self.stamps[name]]
        if moved:
            raise RepositoryInvalid(
                [
                    Problem(
                        name, "", "changed while it was read; load it again once it is complete"
                    )
                    for name in moved
                ]
            )


def reread(
    root: Path,
    inspect: Inspect,
    known: Mapping[str, str],
    generation: int,
    look: Collection[str] | None = None,
    out: Collection[str] = (),
    allowance: Allowance | None = None,
) -> Changes:
    """Load what differs from `known` (by model the `content` that was loaded) of the models in
    `look`, or of all, but for those in `out`. What is the same is not even inspected.

    `inspect` and `allowance` as for `load`. RepositoryInvalid with every mistake found; also where
    the repository holds no model at all: a volume that is not mounted must not end what is served.
    """
    there = names(root)
    looked = {*there, *known} if look is None else set(look)
    looked -= set(out)
    if not there and (looked or look is None):
        load(root, inspect)  # says what is wrong with it
    largest = (allowance or Allowance()).artifact
    stamped: dict[str, Stamp] = {}
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for name in sorted(looked.intersection(there)):
        stamped[name] = stamp(root / name)
        try:
            found[name] = content(root, name, largest)
        except OSError as error:
            problems.append(Problem(name, "", f"cannot be read: {reason(error)}"))
    differ = [name for name, held in found.items() if known.get(name) != held]
    models: Mapping[str, Model] = {}
    try:
        if differ:
            models = load(root, inspect, generation, only=differ, allowance=allowance).models
    except RepositoryInvalid as error:
        problems += error.problems
    if problems:
        raise RepositoryInvalid(problems)
    changes = Changes(
        models=models,
        gone=frozenset(looked.difference(there)),
        unchanged=frozenset(found) - frozenset(differ),
        contents=found,
        stamps=stamped,
    )
    changes.check(root)
    return changes
