"""How long runs on one server have taken lately."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence

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
        self._all: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)
        self._durations: dict[Hashable, deque[tuple[float, float]]] = {}

    def took(self, kind: Hashable, seconds: float, now: float) -> None:
        """A run was answered."""
        self._all.append((now, seconds))
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
        return _slow(self._known(kind, now))

    def slower(self, kind: Hashable, now: float) -> float:
        """The same; of whatever runs there, while little is known of this kind."""
        slow = self.slow(kind, now)
        return slow if slow < math.inf else _slow(_fresh(self._all, now))

    def _known(self, kind: Hashable, now: float) -> list[float]:
        """The oldest first."""
        return _fresh(self._durations.get(kind, ()), now)

    def forget(self, kinds: Callable[[Hashable], bool]) -> None:
        for kind in [kind for kind in self._durations if kinds(kind)]:
            del self._durations[kind]


def _fresh(durations: Iterable[tuple[float, float]], now: float) -> list[float]:
    return [took for at, took in durations if at >= now - STALE]


def _slow(durations: Sequence[float]) -> float:
    known = sorted(durations)
    return 2.0 * known[(19 * len(known)) // 20] if len(known) >= ENOUGH else math.inf
