"""What became of requests, and what that says of the server: pure, times are given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ALWAYS_HONEST = frozenset({"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION"})
"""What any server may say that is short of time or of room; the last where a variant has been seen
to be too slow for the budget even if nobody waits."""

BIN = 0.25
STEADY = 1.0
"""Seconds for which attainment must be back at its level."""

LEAST = 0.05
"""How far below its level, as a share of all requests, it still counts as back: what chance does to
a second's requests."""

NO_ENDING = "no ending"


@dataclass(frozen=True, slots=True)
class Ending:
    """One request: when it was sent and ended (seconds), its gRPC status, or NO_ENDING where its
    caller waited in vain; `wrong` says what was wrong with an answer that was given, "" nothing."""

    sent: float
    ended: float
    status: str
    in_time: bool
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """Of one fault. Attainments are shares from 0 to 1; `until_normal` in seconds from the fault's
    end on, None for not within what was waited."""

    asked: int
    statuses: dict[str, int]
    before: float
    during: float
    after: float
    until_normal: float | None
    lost: tuple[str, ...]
    strange: tuple[str, ...]
    """Statuses that neither load nor this fault explains."""


def attainment(endings: Iterable[Ending], begin: float, end: float) -> float:
    """Share answered right and in time of what was sent then; 1.0 of nothing."""
    among = [each for each in endings if begin <= each.sent < end]
    return sum(each.in_time for each in among) / len(among) if among else 1.0


def back_after(endings: Sequence[Ending], level: float, end: float, until: float) -> float | None:
    """Seconds from `end` to the first moment from which on, for STEADY seconds, attainment is at
    its level. Seconds in which nothing was sent are not normal."""
    at = end
    while at + STEADY <= until + 1e-9:
        sent = [each for each in endings if at <= each.sent < at + STEADY]
        if sent and attainment(sent, at, at + STEADY) >= level - LEAST:
            return at - end
        at += BIN
    return None


def judge(
    endings: Sequence[Ending],
    begun: float,
    struck: float,
    ended: float,
    until: float,
    explained: Iterable[str] = (),
) -> Judged:
    """Of all requests that were sent from `begun` to `until`. The fault held from `struck` to
    `ended`; `explained` are statuses that it gives callers cause to see. A fault that struck in an
    instant holds for a second, as far as attainment during it is asked."""
    among = [each for each in endings if begun <= each.sent < until]
    before = attainment(among, begun, struck)
    back = back_after(among, before, ended, until)
    normal = until if back is None else ended + back
    of_fault = [each for each in among if each.sent >= struck or each.ended >= struck]
    statuses = Counter(each.status for each in of_fault)
    lost = Counter(each.wrong for each in among if each.wrong)
    if unanswered := statuses.pop(NO_ENDING, 0):
        lost[NO_ENDING] += unanswered
    return Judged(
        asked=len(of_fault),
        statuses=dict(statuses.most_common()),
        before=before,
        during=attainment(among, struck, max(normal, struck + STEADY)),
        after=attainment(among, normal, until),
        until_normal=back,
        lost=tuple(f"{count} x {what}" for what, count in sorted(lost.items())),
        strange=tuple(sorted(set(statuses) - ALWAYS_HONEST - set(explained))),
    )
