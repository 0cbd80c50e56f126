"""Whether anything grew in a long run: pure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtests.reliability.endings import NO_ENDING, Ending, attainment

SETTLING, PART = 0.1, 1 / 6
"""Shares of the run: what comes before the first of the two parts that are compared, and a part."""

MOST_GROWTH = 0.02
"""Of memory, as a share."""

MOST_WORSE = 0.02
"""Of attainment, in shares of all requests."""

SLACK = 2.0
"""Descriptors or threads that come and go: a connection, a load under way when it was looked."""


@dataclass(frozen=True, slots=True)
class Looked:
    """At a server's whole process tree, `at` seconds after the start."""

    at: float
    megabytes: float
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Medians of the first part and of the last; of attainment, the shares."""

    asked: int
    statuses: dict[str, int]
    lost: tuple[str, ...]
    megabytes: tuple[float, float]
    descriptors: tuple[float, float]
    threads: tuple[float, float]
    attainment: tuple[float, float]
    attainment_by_minute: tuple[float, ...]

    @property
    def sound(self) -> bool:
        return not self.lost and all(verdict == "as it should" for *_, verdict in self.rows())

    def rows(self) -> Iterator[tuple[str, float, float, str, str]]:
        """Name, before, after, how to write the two, and what is to be said of it."""
        before, after = self.megabytes
        grown = after / before - 1.0
        good = grown < MOST_GROWTH
        yield "memory, MB", before, after, ".1f", _said(good, f"grew by {100 * grown:.1f} %")
        for name, (first, last) in (
            ("file descriptors", self.descriptors),
            ("threads", self.threads),
        ):
            yield name, first, last, "g", _said(last <= first + SLACK, f"{last - first:g} more")
        first, last = self.attainment
        good = last >= first - MOST_WORSE
        yield "in time, share", first, last, ".4f", _said(good, "fewer in time")


def _said(good: bool, bad: str) -> str:
    return "as it should" if good else bad


def minutes(endings: Sequence[Ending], seconds: float) -> tuple[float, ...]:
    """Attainment of each minute that is over."""
    parts: list[list[bool]] = [[] for _ in range(int(seconds // 60))]
    for each in endings:
        if 0.0 <= each.sent < 60.0 * len(parts):
            parts[int(each.sent // 60)].append(each.in_time)
    return tuple(sum(part) / len(part) if part else 0.0 for part in parts)


def verdict(looks: Sequence[Looked], endings: Sequence[Ending], seconds: float) -> Verdict:
    """Of a run of so many seconds; ValueError where nothing was seen in one of the two parts."""
    begin, length = SETTLING * seconds, PART * seconds
    parts = ((begin, begin + length), (seconds - length, seconds))
    seen = [[each for each in looks if low <= each.at < high] for low, high in parts]
    if not all(seen):
        raise ValueError(f"nothing was seen in a part of the run: it ended before {seconds:g} s")

    def medians(name: str) -> tuple[float, float]:
        first, last = (statistics.median(getattr(each, name) for each in part) for part in seen)
        return first, last

    first, last = (attainment(endings, low, high) for low, high in parts)
    lost = Counter(each.wrong for each in endings if each.wrong)
    lost[NO_ENDING] += sum(each.status == NO_ENDING for each in endings)
    return Verdict(
        asked=len(endings),
        statuses=dict(Counter(each.status for each in endings).most_common()),
        lost=tuple(f"{count} x {what}" for what, count in sorted(lost.items()) if count),
        megabytes=medians("megabytes"),
        descriptors=medians("descriptors"),
        threads=medians("threads"),
        attainment=(first, last),
        attainment_by_minute=minutes(endings, seconds),
    )
