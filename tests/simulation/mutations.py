"""Bugs put in on purpose: a simulation that does not find them proves nothing.

Each stands for a mistake that servers of this kind have really had, or that this one nearly had.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from gearshift.core.lane import Lane
from gearshift.core.limits import Usage
from gearshift.core.quota import Bucket
from gearshift.core.request import Ticket
from gearshift.core.rights import EVERYTHING, Rights
from gearshift.core.scheduler import Scheduler
from gearshift.core.workers import Workers
from gearshift.engine import Answer, Engine, Flight, faults, running
from gearshift.engine.clock import Alarm
from gearshift.engine.flight import Guard
from gearshift.engine.generations import Generations
from gearshift.engine.settling import Settling
from gearshift.errors import NotReady
from gearshift.http2 import Connection, Stream, Turns
from gearshift.rpc.calls import UnaryCall
from gearshift.rpc.gate import Gate
from gearshift.rpc.infer_stream import InferStream
from gearshift.telemetry import PrometheusTelemetry

Patch = tuple[Any, str, Any]
"""Whose attribute, which, and what it is for the time being."""


@dataclass(frozen=True, slots=True)
class Mutation:
    name: str
    patches: tuple[Patch, ...]

    @contextmanager
    def in_force(self) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name, mutant in self.patches:
                stack.enter_context(patch.object(owner, name, mutant))
            yield


def _nothing(*arguments: Any, **more: Any) -> None:
    """What was to be done is forgotten."""


def _full(*arguments: Any) -> float:
    return 0.0


def _everything(*arguments: Any) -> Rights:
    return EVERYTHING


_leave = Generations.leave


def _leaves_at_once(self: Any, model: Any, held: Any, retired: Any) -> None:
    """Nobody is waited for."""
    _leave(self, model, (), retired)


_give = Settling._give
_key = Lane.key
_finished = Scheduler.finished
_admit = Scheduler.admit
_again = faults.again
_begin = Workers.begin


def _twice(self: Settling, member: Flight, answer: Answer) -> Any:
    served = _give(self, member, answer)
    if served is not None and answer.ticket.id % 7 == 0:
        member.reply(answer)
    return served


def _next_row(self: Settling, member: Flight, answer: Answer) -> Any:
    if answer.row + answer.ticket.rows < answer.run.rows:
        answer = answer._replace(row=answer.row + 1)
    return _give(self, member, answer)


def _any_floor(self: Lane, ticket: Ticket, **more: Any) -> Any:
    return _key(self, replace(ticket, floor=0.0), **more)


def _lost_worker(self: Scheduler, dispatch_id: int, now: float, measured: float) -> None:
    if dispatch_id % 5:
        _finished(self, dispatch_id, now, measured)


def _still_idle(self: Workers, device: str, now: float, until: float, surely: float) -> int:
    worker = _begin(self, device, now, until, surely)
    if until - now > 0.01:
        self.idle[device].append(worker)
    return worker


def _not_given_back(self: Stream, size: int) -> None:
    self.held -= size


def _again_below(*arguments: Any) -> Any:
    ticket = _again(*arguments)
    return ticket and replace(ticket, floor=0.0)


async def _leaves_some(self: Engine, within: float) -> None:
    self._accepting = False
    for flight in list(self._settling)[1:]:
        self._settling.fail(flight, NotReady("the server is shutting down"))
    self._planning.cancel()


def _shed_later(self: Scheduler, ticket: Ticket, now: float) -> Any:
    verdict = _admit(self, ticket, now)
    if ticket.id % 11 == 0:
        # Its lane forgets it: nobody will ever decide about it.
        Scheduler.cancel(self, ticket.id, now)
    return verdict


MUTATIONS = tuple(
    Mutation(name, patches)
    for name, patches in {
        "an answer is given twice": ((Settling, "_give", _twice),),
        "a place is not freed when its caller leaves": ((Scheduler, "cancel", _nothing),),
        "the neighbour's rows": ((Settling, "_give", _next_row),),
        "the floor is forgotten in the queue": ((Lane, "key", _any_floor),),
        "nobody looks at deadlines while a batch runs": ((Guard, "_arm", _nothing),),
        "who waits too long is not dropped": ((Scheduler, "_expire", _nothing),),
        "a worker is never free again": ((Scheduler, "finished", _lost_worker),),
        "a worker is given a second run": ((Workers, "begin", _still_idle),),
        "the alarm does not ring": ((Alarm, "ring_at", _nothing),),
        "the bytes of a request are held for ever": ((Stream, "taken", _not_given_back),),
        "nobody hears that a caller has left": ((UnaryCall, "cancelled", _nothing),),
        "a blocked stream is not woken": ((Connection, "_on_window_update", _nothing),),
        "what left the queue still counts": ((PrometheusTelemetry, "dequeued", _nothing),),
        "a drain forgets one request": ((Engine, "drain", _leaves_some),),
        "an admitted request is lost": ((Scheduler, "admit", _shed_later),),
        "shapes of outputs are not looked at": ((running, "check_outputs", _nothing),),
        "what is not a number is given out": ((running, "spoiled_rows", _nothing),),
        "a second chance forgets the floor": ((faults, "again", _again_below),),
        "a generation is retired while some of its requests wait": (
            (Generations, "leave", _leaves_at_once),
        ),
        "what there was no time to read is forgotten": ((Turns, "wait", _nothing),),
        "a bucket is never empty": ((Bucket, "take", _full),),
        "nobody is asked for rights": ((Gate, "rights", _everything),),
        "models of others are served": ((Rights, "need_model", _nothing),),
        "inputs that wait are not limited": ((Usage, "check_queue", _nothing),),
        "a request of a stream is counted for ever": ((InferStream, "_forget", _nothing),),
    }.items()
)
