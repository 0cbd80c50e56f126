"""What must hold of every run, whatever happened in it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from gearshift.core.catalog import Late
from gearshift.engine import Answer
from gearshift.errors import (
    BudgetInfeasible,
    Cancelled,
    DeadlineExpired,
    ExecutorFailed,
    ExecutorUnavailable,
    FloorUnreachable,
    InvalidInput,
    ModelNotFound,
    NotReady,
    Outcome,
    Overloaded,
    VariantNotFound,
    ending_of,
)
from simulation.caller import code_of
from simulation.executors import SPOILED, who
from simulation.history import Heard, Ran, Taken
from simulation.scenario import MISTAKES, MS, VARIANTS, Ask, Reload, Revise
from simulation.world import CASCADE
from simulation.world import Outcome as Run

Problems = Iterator[str]

ROUNDING = 1e-6
"""Seconds: sums of floats, and the loop's clock, which jumps by differences."""

BROKEN = ("Injected", "MemoryError", "WorkerLost", SPOILED)
"""How a run ends that is the executor's fault."""

CALLED_OFF = "called off"
TAKEN_OUT = "variant keeps failing and is taken out"
MOST_RUNS = 3
"""Of one row: the first, the second of a cascade, and a second chance."""

GONE = ("CANCELLED BY CALLER", "NOT SENT")
CLASS_BUDGETS = {"default": 2.0, "realtime": 30 * MS, "archive": 60 * MS, "critical": 0.3}
CLASS_FLOORS = {"critical": 0.85}
PATIENT = 8.0
"""Seconds before the end after which a caller that reads has its answer."""


def judge(run: Run) -> dict[str, list[str]]:
    """What was wrong, by the invariant that it breaks; empty if all held."""
    found = {name: list(check(run)) for name, check in INVARIANTS.items()}
    return {name: problems for name, problems in found.items() if problems}


def _settled(run: Run) -> Iterator[Taken]:
    for takens in run.history.taken.values():
        yield from takens


def _only(run: Run, number: int) -> Taken | None:
    takens = run.history.taken.get(number)
    return takens[0] if takens else None


# --- endings ---------------------------------------------------------------------------


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
        taken = _only(run, number)
        for ending in heard.endings:
            if ending in GONE or heard.left or heard.excused:
                continue
            problem = _misfit(run, heard, ending, taken)
            if problem:
                yield f"request {number} heard {ending} ({heard.text}): {problem}"
    for taken in _settled(run):
        for entry, at, ending in taken.endings:
            if isinstance(ending, Exception):
                problem = _unfounded(run, taken, entry, at, ending)
                if problem:
                    yield f"request {taken.number} was told {ending!r}: {problem}"


def _misfit(run: Run, heard: Heard, ending: str, taken: Taken | None) -> str:
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
        return "the engine had answered long before"
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
        out = any(model == ask.model for model, _ in _taken_out(run))
        return "" if out else "no variant of its model was taken out"
    if isinstance(error, ExecutorFailed):
        broke = any(_broke(each) or taken.number in each.odd for each in mine)
        return "" if broke else f"none of its runs broke: {runs}"
    return "there is no reason to say that"


def _broke(ran: Ran) -> bool:
    """It failed, or hung and was given up."""
    return ran.ended in (*BROKEN, CALLED_OFF)


def _taken_out(run: Run) -> Iterator[tuple[str, str]]:
    """Models and variants whose breaker opened."""
    for event in run.logged:
        if event["event"] == TAKEN_OUT:
            yield event["model"], event["variant"]


def _no_budget(ask: Ask) -> str:
    late = ask.service_class == "archive"
    return "its class takes late answers" if late else ""


# --- answers ---------------------------------------------------------------------------


def own_rows(run: Run) -> Problems:
    """An answer holds the rows of its own request, by the variant that it names."""
    for number, heard in run.history.heard.items():
        for message in heard.messages:
            if "OK" in heard.endings:
                yield from _not_its_own(
                    run, number, heard, pb.ModelInferResponse.FromString(message)
                )


def _not_its_own(run: Run, number: int, heard: Heard, answer: pb.ModelInferResponse) -> Problems:
    outputs = {
        output.name: np.frombuffer(raw, np.float32)
        for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
    }
    wanted = [code_of(number, row) for row in range(heard.ask.rows)]
    if outputs["y"].tolist() != wanted:
        yield f"request {number} got {outputs['y'].tolist()} instead of {wanted}"
    taken = _only(run, number)
    if taken is None or taken.model is None:
        yield f"request {number} was answered and never admitted"
        return
    told = answer.parameters["variant"].string_param
    versions = [taken.model.by_name(told).version]
    if "cascade" in answer.parameters:
        versions += [taken.model.by_name(name).version for name in (CASCADE.first, CASCADE.then)]
    allowed = {who(taken.model.generation, version) for version in versions}
    if not set(outputs["who"].tolist()) <= allowed:
        yield f"request {number}: {told} is named, but {outputs['who'].tolist()} answered"
    if heard.ask.variant not in ("", told) and "cascade" not in answer.parameters:
        yield f"request {number} was pinned to {heard.ask.variant} and got {told}"
    assert taken.ticket is not None
    if answer.parameters["accuracy"].double_param < taken.ticket.floor:
        yield f"request {number} is told an accuracy below its floor {taken.ticket.floor}"


def floor_holds(run: Run) -> Problems:
    """Nothing below a request's floor runs for it, and nothing but what it is pinned to."""
    for ran, taken in _running(run):
        assert taken.ticket is not None
        if ran.accuracy < taken.ticket.floor:
            yield (
                f"{ran.variant} ({ran.accuracy}) ran for request {taken.number},"
                f" whose floor is {taken.ticket.floor}"
            )
        pinned = taken.ticket.variant
        pair = (CASCADE.first, CASCADE.then)
        if pinned and ran.variant not in (pair if pinned == CASCADE.name else (pinned,)):
            yield f"{ran.variant} ran for request {taken.number}, pinned to {pinned}"


def generation_holds(run: Run) -> Problems:
    """A request ends on the generation that admitted it."""
    for ran, taken in _running(run):
        assert taken.model is not None
        if ran.model.generation != taken.model.generation:
            yield (
                f"request {taken.number} of generation {taken.model.generation} ran on"
                f" {ran.model.generation}"
            )


def in_time(run: Run) -> Problems:
    """An answer is in time, or its class takes late ones; budgets and floors are as asked for."""
    for taken in _settled(run):
        ticket = taken.ticket
        if ticket is None:
            continue
        ask = run.history.heard[taken.number].ask
        budget = min(
            CLASS_BUDGETS[ask.service_class or "default"],
            math.inf if ask.budget_ms is None else ask.budget_ms / 1e3,
            math.inf if ask.timeout is None or ask.stream else ask.timeout,
        )
        if abs(ticket.budget - budget) > ROUNDING:
            yield f"request {taken.number} has {budget} s, the server gave it {ticket.budget}"
        floor = max(ask.floor or 0.0, CLASS_FLOORS.get(ask.service_class, 0.0))
        if max(ticket.floor, 0.0) != floor:
            yield f"request {taken.number} has the floor {floor}, for the server {ticket.floor}"
        for _, at, ending in taken.endings:
            late = at > ticket.deadline and ticket.late is Late.DROP
            if late and isinstance(ending, Answer):
                yield f"request {taken.number} was answered {at - ticket.deadline} s late"


def admitted_is_kept(run: Run) -> Problems:
    """Who was admitted is not refused for load later."""
    for taken in _settled(run):
        for _, _, ending in taken.endings:
            if taken.ticket is not None and isinstance(ending, Overloaded):
                yield f"request {taken.number} was admitted and then shed"


# --- runs ------------------------------------------------------------------------------


def _running(run: Run) -> Iterator[tuple[Ran, Taken]]:
    """Runs for admitted requests that had no ending when they began."""
    for ran in run.history.runs:
        for number in ran.rows:
            taken = _only(run, number)
            if taken is not None and taken.ticket is not None and not _over(taken, ran):
                yield ran, taken


def _over(taken: Taken, ran: Ran) -> bool:
    return bool(taken.endings) and taken.endings[0][0] < ran.begun


def not_after_deadline(run: Run) -> Problems:
    """Nothing runs whose deadline has passed and whose class takes no late answers."""
    for ran, taken in _running(run):
        ticket = taken.ticket
        assert ticket is not None
        if ticket.late is Late.DROP and ran.at > ticket.deadline + ROUNDING:
            yield f"request {taken.number} began to run {ran.at - ticket.deadline} s too late"


def not_for_nobody(run: Run) -> Problems:
    """Nothing runs for a caller who has left or has its ending: but for shadows."""
    shadowed: Counter[int] = Counter()
    for ran in run.history.runs:
        for number in ran.rows:
            taken = _only(run, number)
            if taken is None or taken.ticket is None:
                yield f"request {number} ran and was never admitted"
            elif taken.left and taken.left < ran.begun:
                yield f"request {number} ran after its caller had left"
            elif ran.at > run.history.heard[number].left_at + run.stood_still + ROUNDING:
                yield f"request {number} ran after the server was told that its caller leaves"
            elif _over(taken, ran):
                shadowed[number] += 1
                answered = isinstance(taken.endings[0][2], Answer)
                if not (answered and run.scenario.shadow_share and shadowed[number] == 1):
                    yield f"request {number} ran after it had ended"


def rows_run_once(run: Run) -> Problems:
    """What has run well for a request does not run again: but for the rows that go on."""
    done: dict[tuple[int, int], Ran] = {}
    times: Counter[tuple[int, int]] = Counter()
    for ran, taken in _running(run):
        for row in ran.rows[taken.number]:
            key = taken.number, row
            times[key] += 1
            before = done.get(key)
            goes_on = (
                before is not None
                and before.variant == CASCADE.first
                and ran.variant == CASCADE.then
                and ran.model.cascades
            )
            if before is not None and before.until < ran.begun and not goes_on:
                yield f"row {row} of request {key[0]} ran on {before.variant} and {ran.variant}"
            if times[key] > MOST_RUNS:
                yield f"row {row} of request {key[0]} ran {times[key]} times"
            if ran.ended == "ok" and taken.number not in ran.odd:
                done[key] = ran


def breakers_have_causes(run: Run) -> Problems:
    """No variant is taken out of which no run has failed."""
    failed = {(ran.model.name, ran.variant) for ran in run.history.runs if _broke(ran) or ran.odd}
    for found in _taken_out(run):
        if found not in failed:
            yield f"{found} was taken out and had never failed"


def workers_alone(run: Run) -> Problems:
    """One run per worker at a time; callers never hear what HTTP/2 does not allow."""
    yield from run.history.problems


# --- books -----------------------------------------------------------------------------


def counts_agree(run: Run) -> Problems:
    """What telemetry has counted is what callers were told."""
    counted: Counter[Outcome] = Counter()
    for (*_, outcome), times in run.telemetry._ledger.requests.items():
        counted[outcome] += times
    told: Counter[Outcome] = Counter(run.engine.refusals)
    for taken in _settled(run):
        if taken.ticket is None:
            continue
        if not taken.endings:
            told[ending_of(Cancelled("")).outcome] += 1
            continue
        _, at, ending = taken.endings[0]
        if isinstance(ending, Answer):
            told[Outcome.LATE if at > taken.ticket.deadline else Outcome.SERVED] += 1
        else:
            told[ending_of(ending).outcome] += 1
    # Which of both a cascade is whose first answer came too late is a matter of taste.
    for counts in (counted, told):
        counts[Outcome.EXPIRED] += counts.pop(Outcome.LATE, 0)
    if counted != told:
        yield f"counted {dict(counted)}, told {dict(told)}"
    for family in run.telemetry.registry.collect():
        if family.name == "gearshift_queue_depth":
            for sample in family.samples:
                if sample.value:
                    yield f"{sample.value} still wait by the books of {sample.labels}"


def nothing_left(run: Run) -> Problems:
    """At the end nobody waits, nothing runs, nothing is held."""
    engine, scheduler = run.engine, run.scheduler
    if len(engine._settling):
        yield f"{len(engine._settling)} requests in flight"
    if scheduler.waiting:
        yield f"{scheduler.waiting} tickets wait"
    for lane in scheduler._lanes.every:
        if lane.count:
            yield f"{lane.count} tickets in the lane of {lane.model.name}"
    # What nobody waited for any more may be called off by the drain.
    called_off = sum(ran.ended == CALLED_OFF for ran in run.history.runs)
    if _out_of_time(run):
        called_off = len(scheduler._running)
    served = {(model.name, model.generation) for model in engine.catalog.models.values()}
    for name, _, generation in run.loaded - {
        (name, variant, generation) for name, generation in served for variant in VARIANTS
    }:
        # A run that never ended may hold what it runs on.
        if not called_off:
            yield f"generation {generation} of {name} is still loaded"
    if len(scheduler._running) != called_off:
        yield f"{len(scheduler._running)} runs are not finished, {called_off} were called off"
    workers = scheduler._workers
    idle = sum(len(each) for each in workers.idle.values())
    if idle + called_off != sum(workers.counts.values()):
        yield f"{idle} workers are idle of {dict(workers.counts)}"
    if engine._running.models:
        yield "tasks of runs"
    for connection in run.connections:
        if connection.streams or connection.held or connection.blocked:
            yield (
                f"a connection has {len(connection.streams)} streams, {connection.held} bytes,"
                f" {len(connection.blocked)} blocked"
            )
    if run.server._connections:
        yield f"{len(run.server._connections)} connections"
    for left in run.left_over:
        yield f"left over: {left[:200]}"


def _out_of_time(run: Run) -> bool:
    """The drain ended before all runs had."""
    return any(event["event"] == "drain ran out of time" for event in run.logged)


def drain_ends(run: Run) -> Problems:
    """A drain takes no longer than it may."""
    if run.drain_took > run.drain_bound + run.stood_still + ROUNDING:
        yield f"the drain took {run.drain_took} s of {run.drain_bound} s"


def log_is_clean(run: Run) -> Problems:
    """Nothing is logged that nothing caused; what broke is logged once."""
    yield from run.loop_faults
    broken = sum(ran.ended in BROKEN for ran in run.history.runs)
    most = sum(_broke(ran) or bool(ran.odd) for ran in run.history.runs)
    logged: Counter[str] = Counter(event["event"] for event in run.logged)
    for expected in (TAKEN_OUT, "variant works again"):
        logged.pop(expected, 0)
    told = logged.pop("executor failed", 0)
    if not broken <= told <= most:
        yield f"{broken} to {most} runs broke, and the log tells of {told}"
    out_of_time = logged.pop("drain ran out of time", 0)
    if out_of_time and run.drain_took < run.scenario.drain_within - ROUNDING:
        yield "the log says that the drain ran out of time"
    for event in logged:
        yield f"logged: {next(each for each in run.logged if each['event'] == event)}"


INVARIANTS: dict[str, Callable[[Run], Problems]] = {
    check.__name__: check
    for check in (
        ends_once,
        status_fits,
        own_rows,
        floor_holds,
        generation_holds,
        in_time,
        admitted_is_kept,
        not_after_deadline,
        not_for_nobody,
        rows_run_once,
        breakers_have_causes,
        workers_alone,
        counts_agree,
        nothing_left,
        drain_ends,
        log_is_clean,
    )
}
