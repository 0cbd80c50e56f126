"""What is to be loaded anew, and what became of it. Plain values: they also go from one process
to another."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from gearshift.errors import Problem


class Result(StrEnum):
    """What became of one model."""

    LOADED = "loaded"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    UNLOADED = "unloaded"


@dataclass(frozen=True, slots=True)
class Reload:
    """Look at the folders `look` again (None: at all); afterwards none of `out` is served. What is
    loaded then is of this generation. The same twice changes nothing the second time."""

    generation: int
    look: tuple[str, ...] | None = None
    out: tuple[str, ...] = ()

    def pack(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, body: bytes) -> Reload:
        told = json.loads(body)
        look = told["look"]
        return cls(told["generation"], None if look is None else tuple(look), tuple(told["out"]))


@dataclass(frozen=True, slots=True)
class Reloaded:
    """By model what became of it; with `problems`, every reason why nothing has changed."""

    results: Mapping[str, Result] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether another catalog is served than before."""
        return not self.problems and not {Result.LOADED, Result.UNLOADED}.isdisjoint(
            self.results.values()
        )

    def pack(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, body: bytes) -> Reloaded:
        told = json.loads(body)
        return cls(
            {name: Result(result) for name, result in told["results"].items()},
            tuple(Problem(**problem) for problem in told["problems"]),
        )


class Settled:
    """Which folders are to be looked at again: those that are not as they were when they were
    looked at last, and in which nothing has changed for `settle` seconds.

    So one that is being copied is left alone, and one that did not load is not tried again before
    something in it has changed.
    """

    def __init__(self, settle: float, known: Mapping[str, Hashable]) -> None:
        """`known`: how the folders were when they were loaded, by name."""
        self._settle = settle
        self._tried = dict(known)
        self._seen: dict[str, tuple[Hashable, float]] = {}
        """How each was at the last look, and since when it has been so."""

    def look(self, now: float, found: Mapping[str, Hashable]) -> list[str]:
        """Who is to be looked at again at `now`, given how they are found; those that are gone
        among them. They count as tried."""
        due = []
        names: Collection[str] = {**self._tried, **self._seen, **found}
        for name in sorted(names):
            state = found.get(name)
            seen, since = self._seen.get(name, (self._tried.get(name), now))
            if state != seen:
                since = now
            self._seen[name] = (state, since)
            if state == self._tried.get(name):
                if state is None:
                    del self._seen[name]
                    self._tried.pop(name, None)
            elif now - since >= self._settle:
                self._tried[name] = state
                due.append(name)
        return due
