"""How long runs on one server have taken lately."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable

REMEMBERED = 64
"""The latest durations of one kind of run."""

STALE = 30.0
"""Seconds after which one says nothing any more: a server that was slow must not be so for ever."""

ENOUGH = 16
"""So many of them tell what is rare, and the latest so many what is usual: a server that has become
slow is known to be after half of them."""


class Observed:
    """By kind of run, which says what takes about as long. Seconds, of one clock."""

    def __init__(self) -> None:
        self._durations: dict[Hashable, deque[tuple[float, float]]] = {}

    def took(self, kind: Hashable, seconds: float, now: float) -> None:
        """A run was answered."""
        self._durations.setdefault(kind, deque(maxlen=REMEMBERED)).append((now, seconds))

    def took_more(self, kind: Hashable, seconds: float, now: float) -> None:
        """A run was not waited for any longer. That says something only if it is more than usual:
        otherwise a server that never answers would stay what it was."""
        if seconds > self.usual(kind, now):
            self.took(kind, seconds, now)

    def usual(self, kind: Hashable, now: float) -> float:
        """The median; 0 for what is not known, so that it gets known."""
        known = sorted(self._known(kind, now)[-ENOUGH:])
        return known[len(known) // 2] if known else 0.0

    def slow(self, kind: Hashable, now: float) -> float:
        """Twice what nineteen of twenty runs take; infinite while little is known. Not just what
        they take: then what may be asked twice would be spent on one run of twenty that is a
        little slower."""
        known = sorted(self._known(kind, now))
        return 2.0 * known[(19 * len(known)) // 20] if len(known) >= ENOUGH else math.inf

    def _known(self, kind: Hashable, now: float) -> list[float]:
        """The oldest first."""
        return [took for at, took in self._durations.get(kind, ()) if at >= now - STALE]

    def forget(self, kinds: Callable[[Hashable], bool]) -> None:
        for kind in [kind for kind in self._durations if kinds(kind)]:
            del self._durations[kind]
