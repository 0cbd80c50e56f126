"""What a fault is, here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtests.reliability.callers import EVERYBODY, Kind
from loadtests.reliability.faults.scene import Scene

Act = Callable[[Scene], str]
"""Does something to a server; what was said to whoever did it, "" for nothing. RuntimeError where
the fault could not be put in, or was not told as it should be."""


def nothing(scene: Scene) -> str:
    """There is nothing to mend."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`strike` puts it in, it holds for `seconds`, `mend` takes it away, and then it is waited
    until the callers have their answers as before, for `normal_within` seconds at the most.

    `seen` are the statuses that it gives callers cause to see, `counted` the beginning of a metric
    that must have grown (else it did not strike), `same` whether the server must be the same
    process afterwards."""

    name: str
    strike: Act
    mend: Act = nothing
    seconds: float = 2.0
    seen: Sequence[str] = ()
    counted: str = ""
    same: bool = True
    normal_within: float = 10.0
    kinds: Sequence[Kind] = EVERYBODY


@dataclass(frozen=True, slots=True)
class Group:
    """Faults that one kind of server has, one after the other."""

    name: str
    scene: Callable[[], Scene]
    faults: Sequence[Fault]
