"""Reloads, and what is logged and traced, with several serving processes: the parent passes each
to every process, and answers for all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any

import structlog

from gearshift.app.exchanging import READY_WITHIN, Exchanging
from gearshift.app.observing import Here, Observed
from gearshift.app.reloading import Reloading
from gearshift.core.observability import LogValue, LogValues, Observability, TraceValues
from gearshift.core.reload import Reload, Reloaded, Result
from gearshift.errors import (
    InvalidInput,
    LoadFailed,
    ModelNotFound,
    NotReady,
    NotServed,
    Overloaded,
    Problem,
    RequestError,
)
from gearshift.processes import Orders, Parent, Post, Supervisor

log = structlog.get_logger(__name__)

ANSWER_WITHIN = READY_WITHIN + 30.0
"""Seconds that one process may take."""

ALL_WITHIN = 3_600.0
"""Seconds until the parent must have said what became of what was asked for."""

LOGS, TRACES = "logs", "traces"

FOLLOWED_WITHIN = 10.0
"""Seconds that one process may take to log and trace otherwise; the parent may take three times as
long for all of them."""

_ERRORS = {
    kind.__name__: kind for kind in (InvalidInput, LoadFailed, ModelNotFound, NotReady, NotServed)
}
"""That go from one process to another, beside Overloaded, which says when to retry."""


def _packed(error: RequestError) -> Mapping[str, Any]:
    told: dict[str, Any] = {"kind": type(error).__name__, "message": str(error)}
    if isinstance(error, Overloaded):
        told["retry_after"] = error.retry_after
    return told


def _unpacked(told: Mapping[str, Any]) -> RequestError:
    if "retry_after" in told:
        return Overloaded(told["message"], told["retry_after"])
    return _ERRORS.get(told["kind"], LoadFailed)(told["message"])


class Passing(Post):
    """The parent's side. `carry_out` is for a Reloading, which is told to `follow`; `here` is what
    the parent itself logs."""

    def __init__(self, here: Here) -> None:
        self.observed = Observed(here.begun, self._spread)
        self._here = here
        self._supervisor: Supervisor | None = None
        self._reloading: Reloading | None = None
        self._numbers = count(1)
        self._waiting: dict[int, tuple[int, asyncio.Future[bytes | None]]] = {}
        """By number of an order: who has it, and what becomes of it; None if he has ended."""
        self._told: dict[int, int] = {}
        """By process, the number of the catalog that it was started with."""
        self._tasks: set[asyncio.Future[object]] = set()

    def follow(self, supervisor: Supervisor, reloading: Reloading) -> None:
        """These are whom orders go to, and who says what is to be loaded."""
        self._supervisor, self._reloading = supervisor, reloading

    async def carry_out(self, order: Reload) -> Reloaded:
        """In every process, one after the other, so that never all are busy with it. Where the
        first fails nothing has changed anywhere; when a later one does, the others go on: they
        must not differ for its sake."""
        assert self._supervisor is not None
        results: dict[str, Result] = {}
        problems: tuple[Problem, ...] = ()
        heard = 0
        for index in self._supervisor.serving():
            body = await self._ask(index, order)
            if body is None:
                continue  # It has ended: who takes its place reads what is there then.
            told = Reloaded.unpack(body)
            heard += 1
            if told.problems and not problems:
                problems = tuple(
                    replace(
                        each,
                        message=f"{each.message} (process {index})" if heard > 1 else each.message,
                    )
                    for each in told.problems
                )
                results |= told.results
                if heard == 1:
                    break
            elif not told.problems:
                results = {**told.results, **results}
                results |= {n: r for n, r in told.results.items() if r is not Result.UNCHANGED}
        if not heard:
            problems = (Problem("the repository", "", "no process could look at it; try again"),)
        return Reloaded(results, problems)

    async def _ask(self, index: int, order: Reload) -> bytes | None:
        try:
            return await self._order(index, {"reload": order.pack().decode()}, ANSWER_WITHIN)
        except TimeoutError:
            text = f"process {index} did not answer in {ANSWER_WITHIN:g} s"
            return Reloaded(problems=(Problem("the repository", "", text),)).pack()

    async def _order(self, index: int, order: Mapping[str, Any], within: float) -> bytes | None:
        """What becomes of it; None if the process has ended. TimeoutError if it says nothing."""
        assert self._supervisor is not None
        number = next(self._numbers)
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (index, answer)
        self._supervisor.write(index, json.dumps({"order": number, **order}).encode())
        try:
            async with asyncio.timeout(within):
                return await answer
        finally:
            del self._waiting[number]

    async def _spread(self, state: Observability) -> None:
        """To this process and to all others, at the same time."""
        assert self._supervisor is not None
        self._here.follow(state)
        serving = self._supervisor.serving()
        told = await asyncio.gather(*(self._let_follow(index, state) for index in serving))
        if not all(told):
            late = serving[told.index(False)]
            raise NotReady(f"process {late} has not followed yet; the others have. Say it again")

    async def _let_follow(self, index: int, state: Observability) -> bool:
        """Whether it has in time; one that has ended has nothing to follow with."""
        with suppress(TimeoutError):
            await self._order(index, {"observe": state.pack()}, FOLLOWED_WITHIN)
            return True
        return False

    # --- what the supervisor tells -----------------------------------------------------------

    def orders(self, orders: Orders) -> Orders:
        if self._reloading is None:
            return orders
        generation = self._reloading.generation
        self._told[orders.index] = generation
        return replace(orders, generation=generation, out=self._reloading.out)

    def ready(self, index: int) -> None:
        if self.observed.state != self._here.begun.state:
            self._begin(self._let_follow(index, self.observed.state))
        if self._reloading is not None:
            self._begin(self._catch_up(index, self._reloading))

    async def _catch_up(self, index: int, reloading: Reloading) -> None:
        """What was loaded and unloaded while the process started it may have missed."""

        async def to_this(order: Reload) -> Reloaded:
            body = await self._ask(index, order)
            return Reloaded() if body is None else Reloaded.unpack(body)

        known = self._told.get(index, reloading.generation)
        told = await reloading.catch_up(known, to_this)
        if told.problems:
            reasons = [str(problem) for problem in told.problems]
            log.error("a process does not serve what the others do", process=index, reasons=reasons)

    def came(self, index: int, body: bytes) -> None:
        told = json.loads(body)
        if "order" in told:
            waiting = self._waiting.get(told["order"])
            if waiting is not None and not waiting[1].done():
                waiting[1].set_result(told["told"].encode())
        else:
            self._begin(self._asked(index, told))

    async def _asked(self, index: int, told: Mapping[str, Any]) -> None:
        """Somebody called that process; all are concerned."""
        assert self._supervisor is not None
        answer: dict[str, Any] = {"asked": told["asked"]}
        try:
            if "observe" in told:
                if told["observe"] == LOGS:
                    answer["told"] = await self.observed.logs(told["changes"])
                else:
                    answer["told"] = await self.observed.traces(told["changes"], told["model"])
            elif self._reloading is None:
                raise NotReady("the server is starting; try again shortly")
            else:
                act = self._reloading.load if told["load"] else self._reloading.unload
                await act(told["model"], told["who"])
        except RequestError as error:
            answer["error"] = _packed(error)
        except Exception as error:
            log.exception("what all processes were asked for failed")
            answer["error"] = _packed(LoadFailed(f"failed: {type(error).__name__}; see the log"))
        self._supervisor.write(index, json.dumps(answer).encode())

    def gone(self, index: int) -> None:
        for whose, answer in self._waiting.values():
            if whose == index and not answer.done():
                answer.set_result(None)

    def _begin(self, work: Awaitable[object]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Nobody is answered any more."""
        for task in self._tasks:
            task.cancel()


class Passed:
    """A process's side: fills `gearshift.ports.Repository` and `Observing` by asking the parent,
    and carries out the parent's orders: reloads one at a time, the others at once, in what is
    `here`."""

    def __init__(self, parent: Parent, exchanging: Exchanging, here: Here) -> None:
        self._parent = parent
        self._exchanging = exchanging
        self._here = here
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        parent.on_letter(self._came)

    async def load(self, model: str, who: str) -> None:
        await self._ask({"load": True, "model": model, "who": who}, ALL_WITHIN)

    async def unload(self, model: str, who: str) -> None:
        await self._ask({"load": False, "model": model, "who": who}, ALL_WITHIN)

    async def unserved(self) -> Mapping[str, str]:
        return await asyncio.to_thread(self._exchanging.unserved)

    async def logs(self, changes: LogValues) -> Mapping[str, LogValue]:
        told = await self._ask({"observe": LOGS, "changes": dict(changes)}, 3 * FOLLOWED_WITHIN)
        found: Mapping[str, LogValue] = told["told"]
        return found

    async def traces(self, changes: TraceValues, model: str = "") -> Mapping[str, Sequence[str]]:
        given = {name: list(values) for name, values in changes.items()}
        question = {"observe": TRACES, "changes": given, "model": model}
        told = await self._ask(question, 3 * FOLLOWED_WITHIN)
        found: Mapping[str, Sequence[str]] = told["told"]
        return found

    async def _ask(self, question: Mapping[str, Any], within: float) -> Mapping[str, Any]:
        number = next(self._numbers)
        answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._parent.write(json.dumps({"asked": number, **question}).encode())
        try:
            async with asyncio.timeout(within):
                told = await answer
        except TimeoutError:
            raise NotReady("the other processes do not answer; see the log") from None
        finally:
            del self._asked[number]
        if "error" in told:
            raise _unpacked(told["error"])
        return told

    def _came(self, body: bytes) -> None:
        told = json.loads(body)
        if "asked" in told:
            answer = self._asked.get(told["asked"])
            if answer is not None and not answer.done():
                answer.set_result(told)
            return
        if "observe" in told:
            self._here.follow(Observability.unpack(told["observe"]))
            self._answer(told["order"], "followed")
            return
        task = asyncio.get_running_loop().create_task(self._carry_out(told))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, told: Mapping[str, Any]) -> None:
        async with self._turn:
            done = await self._exchanging.carry_out(Reload.unpack(told["reload"].encode()))
        self._answer(told["order"], done.pack().decode())

    def _answer(self, order: int, told: str) -> None:
        self._parent.write(json.dumps({"order": order, "told": told}).encode())

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
