"""One thing that is fed any bytes, and what must hold whatever they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Feed = Callable[[bytes], None]
"""Takes one input. What it raises is a finding: what may be raised is caught inside."""


@dataclass(frozen=True)
class Target:
    """`make` sets the scene once and returns what is fed; `seeds` are good inputs to begin from.
    `longest` is in bytes. `words` are pieces that chance would not find."""

    name: str
    make: Callable[[], Feed]
    seeds: Callable[[], Sequence[bytes]]
    longest: int = 4096
    words: Sequence[bytes] = ()


def require(holds: bool, what: str) -> None:
    """An invariant; `assert` could be switched off."""
    if not holds:
        raise AssertionError(what)
