"""From a path to an Artifact: read once, into bytes of our own, which are what is hashed, inspected
and loaded. Later changes of the files change nothing, or are noticed by their hash."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gearshift.artifacts.files import open_inside, read_all, reason, regular
from gearshift.artifacts.onnx import External
from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Variant

Examine = Callable[[bytes], Sequence[External]]
"""Looks at an artifact before a parser does: which parts of which files beside it belong to it.
ValueError with a sentence for one that must not be loaded."""


@dataclass(slots=True)
class Allowance:
    """How much may be read: of one artifact with all that belongs to it, and what is left of that
    for the whole repository. In bytes."""

    artifact: int = 4 * 2**30
    repository: int = 16 * 2**30

    def spend(self, size: int) -> None:
        self.repository -= size

    def most(self, used: int = 0) -> tuple[int, str]:
        """How many bytes the next file may have when `used` of its artifact were read, and the
        setting that says so."""
        if self.repository < self.artifact - used:
            return max(0, self.repository), "what max_repository_bytes leaves"
        return self.artifact - used, "max_artifact_bytes"


def read(root: Path, path: Path, allowance: Allowance) -> Artifact:
    """The file at `path` inside the repository `root`, and nothing beside it yet. ValueError with a
    sentence if it cannot be read; what it has is taken off the allowance, here and below."""
    content = read_all(open_inside(root, path), *allowance.most())
    allowance.spend(len(content))
    return Artifact(str(path), content)


def complete(artifact: Artifact, allowance: Allowance, examine: Examine) -> Artifact:
    """With the files that belong to it. ValueError with a sentence if one of those cannot be read,
    or if it must not be loaded."""
    path = Path(artifact.path)
    beside: dict[str, bytes] = {}
    used = len(artifact.content)
    for part in examine(artifact.content):
        if part.file not in beside:
            try:
                opened = open_inside(path.parent, path.parent / part.file, "its folder")
                beside[part.file] = read_all(opened, *allowance.most(used))
            except ValueError as error:
                raise ValueError(f"needs {part.file!r} beside it, which {error}") from None
            used += len(beside[part.file])
            allowance.spend(len(beside[part.file]))
        part.check(len(beside[part.file]))
    return Artifact(artifact.path, artifact.content, beside)


def read_again(variant: Variant) -> Artifact:
    """The artifact of a variant as it was when the catalog was made. ValueError if it is another
    by now: nothing is loaded that has another hash than what was checked."""
    path = Path(variant.artifact)
    most = variant.artifact_bytes if variant.artifact_sha256 else 2**63
    content = _plain(path, most)
    beside = {name: _plain(path.parent / name, most) for name in variant.artifact_files}
    artifact = Artifact(variant.artifact, content, beside)
    if variant.artifact_sha256 and artifact.sha256() != variant.artifact_sha256:
        raise ValueError(
            f"{path.name} is not the file any more that was checked; load the repository again"
        )
    return artifact


def _plain(path: Path, most: int) -> bytes:
    # Wherever links lead: it is the hash that decides whether it is the same.
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {reason(error)}") from None
    try:
        return read_all(regular(opened), most, "what was checked")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
