"""What an executor loads, as it was read: bytes that cannot change any more, and what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Artifact:
    """`content` is that of the file at `path`, which itself is only for messages; `beside` holds
    the files of the same folder that belong to it, by the relative name it calls them. An executor
    without files gets the variant's folder as `path` and no bytes."""

    path: str
    content: bytes = b""
    beside: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return len(self.content) + sum(map(len, self.beside.values()))

    def sha256(self) -> str:
        """The SHA-256 (hex) of the file; of one to which others belong, that of a list: a line
        for it, `<sha256>  .`, and one for each of the others by name, as `sha256sum` writes."""
        own = hashlib.sha256(self.content).hexdigest()
        if not self.beside:
            return own
        lines = [f"{own}  .\n"]
        lines += (
            f"{hashlib.sha256(self.beside[name]).hexdigest()}  {name}\n"
            for name in sorted(self.beside)
        )
        return hashlib.sha256("".join(lines).encode()).hexdigest()
