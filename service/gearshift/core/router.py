"""Which variants may answer a request, and why one of them did: pure rules, no queue."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

from gearshift.core.catalog import Late, Model
from gearshift.core.profile import Profile
from gearshift.core.request import Ticket
from gearshift.errors import (
    BudgetInfeasible,
    DeadlineExpired,
    ExecutorUnavailable,
    FloorUnreachable,
    NotResident,
    Overloaded,
)


class Reason(StrEnum):
    """Why the variant that answered was chosen; the response parameter `reason`."""

    MOST_ACCURATE = "most_accurate"
    BUDGET = "budget"
    LOAD = "load"
    PINNED = "pinned"
    FALLBACK = "fallback"


def fastest(ticket: Ticket, model: Model, profiles: Sequence[Profile]) -> Profile:
    """The fastest profile that the ticket accepts, for its own rows.

    Raises FloorUnreachable when no variant is accurate enough and BudgetInfeasible when
    none is fast enough even on an idle server; both name the nearest that would work.
    """
    pinned = [p for p in profiles if may_answer(p, ticket.variant)]
    eligible = [p for p in pinned if p.least_accuracy >= ticket.floor]
    if not eligible:
        raise _floor_unreachable(ticket, model)
    best = min(eligible, key=lambda p: p.p99(ticket.rows))
    needed = best.p99(ticket.rows)
    if needed > ticket.budget and ticket.late is Late.DROP:
        raise _budget_infeasible(ticket, model, profiles, best)
    return best


def may_answer(profile: Profile, pinned: str | None) -> bool:
    """Whether the server may choose it; one that does not serve only who names it."""
    return profile.serving if pinned is None else profile.variant.name == pinned


def reason(ticket: Ticket, model: Model, chosen: Profile, better: float) -> Reason:
    """Why `chosen` answers the ticket: what would an idle server have done in its budget?

    `better` is the least p99 of any more accurate variant, below zero if that keeps failing.
    """
    if ticket.variant is not None:
        return Reason.PINNED
    if ticket.without is not None and chosen.variant.name != ticket.without:
        return Reason.FALLBACK
    if chosen.variant.accuracy >= model.best_accuracy:
        return Reason.MOST_ACCURATE
    if better < 0.0:
        # An answer of a cascade that is called a fallback is its first one for want of a second.
        broken = -better <= ticket.budget and chosen.cascade is None
        return Reason.FALLBACK if broken else Reason.BUDGET
    return Reason.LOAD if better <= ticket.budget else Reason.BUDGET


def overloaded(
    ticket: Ticket, before: int, workers: int, free_in: float, missing: float
) -> Overloaded:
    """`before` tickets wait before it, the first of the workers is free in `free_in` seconds,
    and `missing` seconds more would have been enough."""
    return Overloaded(
        f"model {ticket.model!r} cannot answer within the budget of"
        f" {ticket.budget * 1e3:.3g} ms: {before} requests wait before it and the"
        f" first of {workers} worker(s) is free in {free_in * 1e3:.3g} ms;"
        f" {max(missing, 0.001) * 1e3:.3g} ms more would do",
        max(missing, 0.001),
    )


def unavailable(ticket: Ticket, wanted: Profile | None, wait: float) -> ExecutorUnavailable:
    """Who could answer, such as `wanted`, keeps failing; it is tried again in `wait` seconds."""
    if wanted is None:
        return ExecutorUnavailable(f"no other variant of model {ticket.model!r} can answer now")
    others = "" if ticket.variant is not None else ", and no other that works would do"
    return ExecutorUnavailable(
        f"variant {wanted.variant.name!r} of model {ticket.model!r} keeps failing{others};"
        f" it is tried again in {_ms(wait)}",
        wait,
    )


def not_resident(ticket: Ticket, wanted: Profile, here: Sequence[Profile]) -> NotResident:
    """Who could answer, such as `wanted`, is not loaded; `here` are those that are."""
    loaded = sorted({profile.variant.name for profile in here})
    others = "" if ticket.variant is not None else ", and none that is loaded would do"
    return NotResident(
        f"variant {wanted.variant.name!r} of model {ticket.model!r} is not resident: the memory of"
        f" {wanted.device!r} holds others now{others}; resident are"
        f" {', '.join(loaded) or 'none of this model'}"
    )


def expired(ticket: Ticket, quickest: float, now: float) -> DeadlineExpired:
    """Its latest start has passed: even `quickest` seconds would be too many."""
    return DeadlineExpired(
        f"waited {(now - ticket.arrival) * 1e3:.3g} ms of a {ticket.budget * 1e3:.3g} ms budget;"
        f" even the fastest variant (p99 {quickest * 1e3:.3g} ms) would now be late"
    )


def _floor_unreachable(ticket: Ticket, model: Model) -> FloorUnreachable:
    variant = model.pinned(ticket.variant)
    if variant is not None:
        return FloorUnreachable(
            f"variant {variant.name!r} of model {model.name!r} has {model.metric}"
            f" {variant.accuracy:.4f}, below the floor {ticket.floor:.4f}; the best variant is"
            f" {model.best.name!r} with {model.best_accuracy:.4f}"
        )
    if ticket.variant is not None:
        return FloorUnreachable(
            f"cascade {ticket.variant!r} of model {model.name!r} may answer by a variant below"
            f" the floor {ticket.floor:.4f}, which holds for every answer; the best variant is"
            f" {model.best.name!r} with {model.metric} {model.best_accuracy:.4f}"
        )
    return FloorUnreachable(
        f"no variant of model {model.name!r} reaches the floor {ticket.floor:.4f}; the best is"
        f" {model.best.name!r} with {model.metric} {model.best_accuracy:.4f}"
    )


def _budget_infeasible(
    ticket: Ticket, model: Model, profiles: Sequence[Profile], nearest: Profile
) -> BudgetInfeasible:
    message = (
        f"no accepted variant of model {model.name!r} answers {ticket.rows} row(s) within"
        f" {_ms(ticket.budget)}: the fastest is {nearest.variant.name!r} with a p99 of"
        f" {_ms(nearest.p99(ticket.rows))}; allow at least that"
    )
    in_time = [p for p in profiles if p.serving and p.p99(ticket.rows) <= ticket.budget]
    if in_time:
        best = max(in_time, key=lambda p: p.variant.accuracy)
        message += f", or accept {model.metric} {best.variant.accuracy:.4f} ({best.variant.name!r})"
    return BudgetInfeasible(message)


def _ms(seconds: float) -> str:
    if math.isinf(seconds):
        return "unlimited time"
    return f"{seconds * 1e3:.3g} ms"
