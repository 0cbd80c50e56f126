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
    Cancelled,
    Outcome,
    Overloaded,
    ending_of,
)
from simulation.endings import ends_once, status_fits
from simulation.entering import limits_hold, only_who_may, quotas_hold
from simulation.executors import who
from simulation.facts import (
    AT_THE_MOMENT,
    BROKEN,
    CALLED_OFF,
    CLASS_BUDGETS,
    CLASS_FLOORS,
    MOST_RUNS,
    ROUNDING,
    TAKEN_OUT,
    Problems,
    broke,
    only,
    settled,
    taken_out,
)
from simulation.history import Heard, Ran, Taken
from simulation.requests import code_of
from simulation.scenario import VARIANTS, Unread
from simulation.served import CASCADE
from simulation.world import Outcome as Run


def judge(run: Run) -> dict[str, list[str]]:
    """What was wrong, by the invariant that it breaks; empty if all held."""
    found = {name: list(check(run)) for name, check in INVARIANTS.items()}
    return {name: problems for name, problems in found.items() if problems}


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
    if not all(np.isfinite(each).all() for each in outputs.values()):
        yield f"request {number} got values that are not finite"
    wanted = [code_of(number, row) for row in range(heard.ask.rows)]
    if outputs["y"].tolist() != wanted:
        yield f"request {number} got {outputs['y'].tolist()} instead of {wanted}"
    taken = only(run, number)
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
    # Who wants the cascade is answered by its second variant where its first has failed.
    pinned = (
        (CASCADE.first, CASCADE.then) if heard.ask.variant == CASCADE.name else (heard.ask.variant,)
    )
    if heard.ask.variant and told not in pinned:
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
    for taken in settled(run):
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
    for taken in settled(run):
        for _, _, ending in taken.endings:
            if taken.ticket is not None and isinstance(ending, Overloaded):
                yield f"request {taken.number} was admitted and then shed"


# --- runs ------------------------------------------------------------------------------


def _running(run: Run) -> Iterator[tuple[Ran, Taken]]:
    """Runs for admitted requests that had no ending when they began."""
    for ran in run.history.runs:
        for number in ran.rows:
            taken = only(run, number)
            if taken is not None and taken.ticket is not None and not _over(taken, ran):
                yield ran, taken


def _over(taken: Taken, ran: Ran) -> bool:
    return bool(taken.endings) and taken.endings[0][0] < ran.begun


def not_after_deadline(run: Run) -> Problems:
    """Nothing runs whose deadline has passed and whose class takes no late answers."""
    # Between a decision and its run others are read, or a run on the loop hangs.
    reading = run.stood_still
    for ran, taken in _running(run):
        ticket = taken.ticket
        assert ticket is not None
        if ticket.late is Late.DROP and ran.at > ticket.deadline + ROUNDING + reading:
            yield f"request {taken.number} began to run {ran.at - ticket.deadline} s too late"


def not_for_nobody(run: Run) -> Problems:
    """Nothing runs for a caller who has left or has its ending: but for shadows."""
    shadowed: Counter[int] = Counter()
    for ran in run.history.runs:
        for number in ran.rows:
            taken = only(run, number)
            if taken is None or taken.ticket is None:
                yield f"request {number} ran and was never admitted"
            elif taken.left and taken.left < ran.begun:
                yield f"request {number} ran after its caller had left"
            elif not _over(taken, ran) and ran.at > _told_by(run, number):
                yield f"request {number} ran after the server was told that its caller leaves"
            elif _over(taken, ran):
                shadowed[number] += 1
                answered = isinstance(taken.endings[0][2], Answer)
                if not (answered and run.scenario.shadow_share and shadowed[number] == 1):
                    yield f"request {number} ran after it had ended"


def _told_by(run: Run, number: int) -> float:
    """When the server surely knew that its caller leaves."""
    heard = run.history.heard[number]
    steps = run.scenario.steps
    if run.scenario.reading or run.scenario.quotas is not None:
        # What comes waits until it is its turn, and longer behind what is over a quota.
        return math.inf
    if any(isinstance(step, Unread) and step.caller == heard.ask.caller for step in steps):
        # The server does not read who does not read.
        return math.inf
    return heard.left_at + run.stood_still + ROUNDING


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
            # One that takes too long may end at the very moment at which it is given up, or at
            # which another is begun for its members.
            given_up = before is not None and (
                ran.at - before.at >= run.scenario.hung_after
                or ran.begun - before.until <= AT_THE_MOMENT
            )
            if before is not None and before.until < ran.begun and not (goes_on or given_up):
                yield f"row {row} of request {key[0]} ran on {before.variant} and {ran.variant}"
            if times[key] > MOST_RUNS:
                yield f"row {row} of request {key[0]} ran {times[key]} times"
            if ran.ended == "ok" and taken.number not in ran.odd:
                done[key] = ran


def breakers_have_causes(run: Run) -> Problems:
    """No variant is taken out of which no run has failed."""
    failed = {(ran.model.name, ran.variant) for ran in run.history.runs if broke(ran) or ran.odd}
    for found in taken_out(run):
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
    for taken in settled(run):
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
    refused, asked = sum(run.engine.refusals.values()), len(run.history.heard)
    if refused > asked:
        yield f"{refused} were refused, and {asked} asked"
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
    unfinished = len(scheduler._running)
    called_off = sum(ran.ended == CALLED_OFF for ran in run.history.runs)
    # The places of runs that were given up are made anew, as long as not too many hang.
    given_up = sum(times for (_, why), times in run.telemetry.faults._lost.items() if why == "hung")
    least = called_off - given_up
    most = called_off if run.executor.stuck else least
    if not least <= unfinished <= most and not _out_of_time(run):
        yield f"{unfinished} runs are not finished, {called_off} were called off, {given_up} lost"
    served = {(model.name, model.generation) for model in engine.catalog.models.values()}
    for name, _, generation in run.loaded - {
        (name, variant, generation) for name, generation in served for variant in VARIANTS
    }:
        # A run that never ended may hold what it runs on.
        if not unfinished:
            yield f"generation {generation} of {name} is still loaded"
    workers = scheduler._workers
    idle = sum(len(each) for each in workers.idle.values())
    if idle + unfinished != sum(workers.counts.values()):
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
    most = sum(broke(ran) or bool(ran.odd) for ran in run.history.runs)
    logged: Counter[str] = Counter(event["event"] for event in run.logged)
    for expected in (TAKEN_OUT, "variant works again"):
        logged.pop(expected, 0)
    if logged.pop("draining", 0) != 1:
        yield "the log does not tell once of the drain"
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
        only_who_may,
        quotas_hold,
        limits_hold,
        workers_alone,
        counts_agree,
        nothing_left,
        drain_ends,
        log_is_clean,
    )
}
