"""How requests ended, and whether there was a reason for it."""

from __future__ import annotations

import math

from gearshift.engine import Answer
from gearshift.errors import (
    BudgetInfeasible,
    DeadlineExpired,
    ExecutorFailed,
    ExecutorUnavailable,
    FloorUnreachable,
    InvalidInput,
    ModelNotFound,
    NotReady,
    Overloaded,
    QuotaExceeded,
    TooMany,
    VariantNotFound,
    ending_of,
)
from simulation.entering import refused_at_the_door
from simulation.facts import GONE, PATIENT, ROUNDING, Problems, broke, only, settled, taken_out
from simulation.history import Heard, Taken
from simulation.scenario import MISTAKES, VARIANTS, Ask, Reload, Revise
from simulation.served import CASCADE
from simulation.world import Outcome as Run


def ends_once(run: Run) -> Problems:
    """Every request ends exactly once, at the engine and at its caller."""
    for number, takens in run.history.taken.items():
        if len(takens) > 1:
            yield f"request {number} was taken in {len(takens)} times"
        for taken in takens:
            if len(taken.endings) + bool(taken.left and not taken.endings) != 1:
                yield f"request {number} has {len(taken.endings)} replies, left: {taken.left}"
            if taken.left and taken.endings and taken.endings[0][0] > taken.left:
                yield f"request {number} was answered after its caller had left"
    for number, heard in run.history.heard.items():
        if len(heard.endings) != 1:
            yield f"the caller of request {number} heard {heard.endings}"


def status_fits(run: Run) -> Problems:
    """What a caller hears is what the engine said, and there was a reason to say it."""
    for number, heard in run.history.heard.items():
        taken = only(run, number)
        for ending in heard.endings:
            if ending in GONE or heard.left or heard.excused:
                continue
            problem = _misfit(run, heard, ending, taken)
            if problem:
                yield f"request {number} heard {ending} ({heard.text}): {problem}"
    for taken in settled(run):
        for entry, at, ending in taken.endings:
            if isinstance(ending, Exception):
                problem = _unfounded(run, taken, entry, at, ending)
                if problem:
                    yield f"request {taken.number} was told {ending!r}: {problem}"


def _misfit(run: Run, heard: Heard, ending: str, taken: Taken | None) -> str:
    if refused_at_the_door(run, heard, ending):
        return ""
    if ending.endswith(("LOST", "REFUSED")) or ending == "STREAM OK":
        return _lost(run, heard, taken)
    if taken is None:
        wrong = heard.ask.wrong
        known = ending in MISTAKES.get(wrong, ()) or (ending == "ERROR" and wrong)
        unloaded = "no model" in heard.text and any(
            isinstance(step, Reload) and step.gone for step in run.scenario.steps
        )
        return "" if known or unloaded else "the engine never had it"
    if not taken.endings:
        return "the engine gave no reply"
    _, _, reply = taken.endings[0]
    if isinstance(reply, Answer):
        return "" if ending == "OK" else "the engine had an answer"
    said = ending_of(reply).status
    return "" if ending in (said, "ERROR") else f"the engine said {said}"


def _lost(run: Run, heard: Heard, taken: Taken | None) -> str:
    """Why it is wrong that a connection ended before the answer was there."""
    drained_at = run.history.drained_at
    if drained_at is None:
        return "nobody drained"
    answered = heard.reads and taken is not None and taken.endings
    if answered and taken.endings[0][1] < drained_at - PATIENT:
        # Who reads so slowly that the whole drain is not enough has had its time.
        cut = run.drain_took >= run.scenario.drain_within
        return "" if cut else "the engine had answered long before"
    early = heard.sent is not None and heard.sent < drained_at - PATIENT
    if taken is None and early and heard.reads and run.scenario.quotas is None:
        return "it had been sent long before, and was never read"
    return ""


def _unfounded(run: Run, taken: Taken, entry: int, at: float, error: Exception) -> str:
    ask = run.history.heard[taken.number].ask
    ticket = taken.ticket
    mine = [r for r in run.history.runs if taken.number in r.rows and r.begun < entry]
    runs = [r.ended for r in mine]
    if isinstance(error, InvalidInput | ModelNotFound | VariantNotFound):
        unloaded = any(
            isinstance(step, Reload) and step.gone and step.model == ask.model
            for step in run.scenario.steps
        )
        right = not ask.wrong and not (ask.variant == CASCADE.name and ask.model == "a")
        return "nothing was wrong with it" if right and not unloaded else ""
    if isinstance(error, QuotaExceeded):
        return "" if run.scenario.quotas is not None and ticket is None else "it has no quota"
    if isinstance(error, TooMany):
        return "" if ticket is None else "it had been admitted"
    if isinstance(error, Overloaded):
        return "it had been admitted" if ticket is not None else _no_budget(ask)
    if isinstance(error, BudgetInfeasible):
        return _no_budget(ask)
    if isinstance(error, FloorUnreachable):
        revised = any(isinstance(step, Revise | Reload) for step in run.scenario.steps)
        high = max(ask.floor or 0.0, 0.85 if ask.service_class == "critical" else 0.0)
        low = ask.variant and VARIANTS.get(ask.variant, min(VARIANTS.values())) < high
        return "" if revised or low or high > max(VARIANTS.values()) else "a variant reaches it"
    if isinstance(error, DeadlineExpired):
        if ticket is None or ticket.deadline == math.inf:
            return "it had no deadline, or was never admitted"
        if at > ticket.deadline + ROUNDING + run.stood_still:
            return f"it had to wait for that until {at - ticket.deadline:.4f} s after its deadline"
        return ""
    if isinstance(error, NotReady):
        return "" if run.history.drained_at is not None else "nobody drained"
    if isinstance(error, ExecutorUnavailable):
        out = any(model == ask.model for model, _ in taken_out(run))
        # What was above the floor may be below it by the time of a second chance.
        out |= any(isinstance(step, Revise | Reload) for step in run.scenario.steps)
        return "" if out else "no variant of its model was taken out"
    if isinstance(error, ExecutorFailed):
        failed = any(broke(each) or taken.number in each.odd for each in mine)
        return "" if failed else f"none of its runs broke: {runs}"
    return "there is no reason to say that"


def _no_budget(ask: Ask) -> str:
    late = ask.service_class == "archive"
    return "its class takes late answers" if late else ""
