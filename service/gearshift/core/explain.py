"""Why: what the scheduler would do with a ticket at this moment, and what speaks against each gear.

The choice itself is never worked out twice: a copy of the scheduler makes it
(`gearshift.core.trial`). Here it is put into words, gear by gear.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gearshift.core.catalog import Standing
from gearshift.core.profile import Profile
from gearshift.core.request import Ticket
from gearshift.core.router import Reason
from gearshift.core.scheduler import Scheduler
from gearshift.core.trial import Found, Trial
from gearshift.errors import RequestError


class Verdict(StrEnum):
    """Why a gear was taken or not; the names of `Candidate.Verdict` on the wire."""

    CHOSEN = "chosen"
    NOT_PINNED = "not_pinned"
    BELOW_FLOOR = "below_floor"
    TOO_MANY_ROWS = "too_many_rows"
    TOO_SLOW = "too_slow"
    BUSY = "busy"
    TOO_DEAR = "too_dear"
    BETTER_CHOSEN = "better_chosen"
    CANARY = "canary"
    WITHDRAWN = "withdrawn"
    BROKEN = "broken"
    NOT_RESIDENT = "not_resident"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """One gear on the device that would answer soonest. Seconds: `wait` until a worker is free
    for it, `p50` and `p99` of the run, infinite for more rows than it runs at once."""

    name: str
    version: int
    accuracy: float
    source: str
    wait: float
    p50: float
    p99: float
    verdict: Verdict
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What would become of `ticket`: `chosen` answers it because of `reason`, after waiting for
    `after` seconds if nothing else comes; or it ends with `refused`. `gears` are the most accurate
    first."""

    ticket: Ticket
    chosen: str
    reason: Reason | None
    refused: RequestError | None
    after: float
    gears: Sequence[Weighed]


def explain(scheduler: Scheduler, ticket: Ticket, now: float) -> Explanation:
    """What `scheduler` would do with such a ticket at `now`; it is left as it is.

    On an idle server that is what happens; under load it is a statement of the present moment,
    as if nothing else came. The ticket's id must not be in use.
    """
    trial = Trial(scheduler)
    options = trial.options(ticket, now)
    found = trial.outcome(ticket, now)
    gears: dict[str, tuple[Profile, float]] = {}

    def order(option: tuple[Profile, float]) -> tuple[bool, float]:
        profile, wait = option
        return not trial.resident(ticket, profile), wait + profile.p99(ticket.rows)

    for profile, wait in sorted(options, key=order):
        gears.setdefault(profile.variant.name, (profile, wait))
    if found.profile is not None:
        # Where it would run is what is told of it.
        gears[found.profile.variant.name] = found.profile, found.after
    weighed = []
    for profile, wait in gears.values():
        breaker = trial.breaker(ticket, profile)
        retry = None if breaker is None else breaker.retry_after(now)
        resident = trial.resident(ticket, profile)
        weighed.append(_weigh(profile, wait, ticket, found, retry, resident))
    return Explanation(
        ticket=ticket,
        chosen="" if found.profile is None else found.profile.variant.name,
        reason=found.reason,
        refused=found.error,
        after=found.after,
        gears=sorted(weighed, key=lambda gear: (-gear.accuracy, gear.p99, gear.version)),
    )


def _weigh(
    profile: Profile,
    wait: float,
    ticket: Ticket,
    found: Found,
    retry: float | None,
    resident: bool,
) -> Weighed:
    """`retry`: seconds until a profile that keeps failing is tried again; `resident`: it is
    loaded."""
    variant = profile.variant
    verdict, why = _verdict(profile, wait, ticket, found)
    if retry is not None and verdict not in (Verdict.NOT_PINNED, Verdict.BELOW_FLOOR):
        verdict = Verdict.BROKEN
        why = f"it keeps failing and is taken out; one request tries it again in {_ms(retry)}"
    if not resident and verdict not in (Verdict.NOT_PINNED, Verdict.BELOW_FLOOR):
        verdict = Verdict.NOT_RESIDENT
        why = f"not resident: the memory of {profile.device!r} holds others now"
    return Weighed(
        name=variant.name,
        version=variant.version,
        accuracy=variant.accuracy,
        source=variant.source,
        wait=wait,
        p50=profile.p50(ticket.rows),
        p99=profile.p99(ticket.rows),
        verdict=verdict,
        why=why,
    )


def _verdict(profile: Profile, wait: float, ticket: Ticket, found: Found) -> tuple[Verdict, str]:
    """In the order in which gears drop out, and a sentence about it."""
    variant, budget, p99 = profile.variant, ticket.budget, profile.p99(ticket.rows)
    if ticket.variant not in (None, variant.name):
        return Verdict.NOT_PINNED, f"the request pins {ticket.variant!r}"
    if profile.least_accuracy < ticket.floor:
        return (
            Verdict.BELOW_FLOOR,
            f"its accuracy {variant.accuracy:.4f} is below the floor {ticket.floor:.4f}"
            if profile.cascade is None
            else f"a variant with {profile.least_accuracy:.4f} may answer in it, below the floor"
            f" {ticket.floor:.4f}",
        )
    if ticket.variant is None and not profile.serving:
        if variant.standing is Standing.CANARY:
            return (
                Verdict.CANARY,
                f"new: {variant.share:.3g} of the requests try it until enough is known about it",
            )
        return Verdict.WITHDRAWN, "taken out: only a request that pins it is answered by it"
    if ticket.rows > profile.max_batch:
        return (
            Verdict.TOO_MANY_ROWS,
            f"{ticket.rows} rows are more than the {profile.max_batch} that it runs at once",
        )
    if found.profile is not None and variant is found.profile.variant:
        return Verdict.CHOSEN, _chosen(found)
    if p99 > budget:
        return Verdict.TOO_SLOW, f"its p99 of {_ms(p99)} is above the budget of {_ms(budget)}"
    if wait + p99 > budget:
        return (
            Verdict.BUSY,
            f"a worker is free for it in {_ms(wait)}: with its p99 of {_ms(p99)} that is more than"
            f" the budget of {_ms(budget)}",
        )
    if found.profile is None:
        return Verdict.BUSY, "too many requests wait before it"
    better = found.profile.variant
    if variant.accuracy > better.accuracy:
        return (
            Verdict.TOO_DEAR,
            f"in time, but now its {_ms(profile.p50(ticket.rows))} of a worker's time are worth"
            " more to others, or would lock those with a short budget out",
        )
    if variant.accuracy == better.accuracy:
        return Verdict.BETTER_CHOSEN, f"{better.name!r} is as accurate and costs less"
    return (
        Verdict.BETTER_CHOSEN,
        f"in time, but {better.name!r} is more accurate with {better.accuracy:.4f}",
    )


_REASONS = {
    Reason.MOST_ACCURATE: "the most accurate of all",
    Reason.BUDGET: "the best for which the budget leaves time",
    Reason.LOAD: "the best for which the present load leaves room",
    Reason.PINNED: "the request pins it",
    Reason.FALLBACK: "a more accurate one keeps failing",
}


def _chosen(found: Found) -> str:
    assert found.reason is not None
    words = _REASONS.get(found.reason, found.reason.value)
    if not found.certain:
        return f"most probably: more waits before it than can be foreseen ({words})"
    return f"{words}, after {_ms(found.after)} of waiting" if found.after > 0.0 else words


def _ms(seconds: float) -> str:
    return "unlimited time" if seconds == math.inf else f"{seconds * 1e3:.3g} ms"
