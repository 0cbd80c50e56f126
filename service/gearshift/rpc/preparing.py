"""Requests whose inputs are still to be made by the steps of their model, in threads.

To decode a picture takes milliseconds, to cut a text into tokens some tenths of one; on the loop
nobody else would be served meanwhile. So it is done beside it, in one place with few threads, by
the nearest deadline. Who has left, or whose time is up, is not decoded. What waits here counts as
what waits in the queue does (`max_queue`, `max_queue_bytes`).
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from gearshift.core.catalog import Late, Model
from gearshift.core.limits import Usage
from gearshift.core.request import Ticket
from gearshift.engine import Flight
from gearshift.engine.batch import bytes_of
from gearshift.errors import DeadlineExpired, NotReady
from gearshift.ports import Clock, Tensors, Timer
from gearshift.steps import check, made

THREADS = 2
"""Where nobody says otherwise."""

Failed = Callable[[Exception], None]


@dataclass(slots=True, eq=False)
class Preparation:
    """One request on its way to its inputs; `became` is what it is once they are made: admitted,
    or on its way again, or over."""

    model: Model
    sent: Tensors
    ticket: Ticket
    size: int
    """Bytes that it takes: as it was sent, and as it will be."""
    done: Done
    failed: Failed
    timer: Timer | None = None
    wanted: bool = True
    running: bool = False
    became: Taken | None = None


Taken = Flight | Preparation
"""A request that has been taken in."""

Done = Callable[[Tensors, float], Taken | None]
"""Told the network's inputs and the seconds that making them took; admits the request."""


class Preparer:
    """Makes inputs, for all connections of a server. Of its `threads` one is kept for other models
    than the one that has the rest: large pictures do not hold up short texts."""

    def __init__(self, clock: Clock, usage: Usage, threads: int = THREADS) -> None:
        self._clock = clock
        self._usage = usage
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._numbers = count()
        self._waiting: dict[str, list[tuple[float, int, Preparation]]] = {}
        """By model, the nearest deadline first; some have left."""
        self._left: Counter[str] = Counter()
        """By model, how many of those have."""
        self._running: Counter[str] = Counter()

    def begin(
        self, model: Model, sent: Tensors, ticket: Ticket, done: Done, failed: Failed
    ) -> Preparation:
        """Let the model's steps make of `sent` what its network takes. Exactly one of `done` and
        `failed` is called then, later, unless `leave` is. InvalidInput for what no step would
        read, TooMany where there is no room."""
        check(model, sent)
        waiting = len(self._waiting.get(model.name, ())) - self._left[model.name]
        if waiting >= self._usage.limits.max_queue:
            raise self._usage.too_many("max_queue", f"requests of model {model.name!r} that wait")
        # What came is there twice, in the message and as what was read from it.
        size = 2 * bytes_of(sent) + ticket.rows * _row_bytes(model)
        self._usage.check_queue(size)
        self._usage.queued += size
        begun = Preparation(model, sent, ticket, size, done, failed)
        if ticket.deadline < math.inf and ticket.late is Late.DROP:
            begun.timer = self._clock.call_at(ticket.deadline, lambda: self._expire(begun))
        place = (ticket.deadline, next(self._numbers), begun)
        heappush(self._waiting.setdefault(model.name, []), place)
        self._fill()
        return begun

    def leave(self, preparation: Preparation) -> bool:
        """Nobody waits for it any more; whether it was still on its way."""
        if not preparation.wanted:
            return False
        self._over(preparation)
        if not preparation.running:
            self._give_back(preparation)
            name = preparation.model.name
            self._left[name] += 1
            waiting = self._waiting[name]
            if 2 * self._left[name] > len(waiting):
                waiting[:] = [place for place in waiting if place[2].wanted]
                heapify(waiting)
                self._left[name] = 0
        return True

    def close(self) -> None:
        """What has not begun never does."""
        for waiting in self._waiting.values():
            for _, _, each in list(waiting):
                if self.leave(each):
                    each.failed(NotReady("the server is shutting down"))
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _expire(self, preparation: Preparation) -> None:
        if self.leave(preparation):
            budget = preparation.ticket.budget * 1e3
            preparation.failed(
                DeadlineExpired(
                    f"the model's steps had not made its inputs within the {budget:.3g} ms budget"
                )
            )

    def _over(self, preparation: Preparation) -> None:
        """It is not wanted here any more, whether it is done or not."""
        preparation.wanted = False
        if preparation.timer is not None:
            preparation.timer.cancel()

    def _give_back(self, preparation: Preparation) -> None:
        self._usage.queued -= preparation.size
        preparation.sent = {}

    # --- in threads ------------------------------------------------------------------------

    def _fill(self) -> None:
        """Begin what there are threads for."""
        most = max(1, self._threads - 1)
        while self._running.total() < self._threads:
            able = [
                (waiting[0], name)
                for name, waiting in self._waiting.items()
                if waiting and self._running[name] < most
            ]
            if not able:
                return
            _, name = min(able)
            _, _, first = heappop(self._waiting[name])
            if not self._waiting[name]:
                del self._waiting[name]
            if not first.wanted:
                self._left[name] -= 1
                continue
            first.running = True
            self._running[name] += 1
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="preparing")
            self._pool.submit(self._make, first, asyncio.get_running_loop())

    def _make(self, preparation: Preparation, loop: asyncio.AbstractEventLoop) -> None:
        result: tuple[Tensors, float] | Exception
        try:
            result = made(preparation.model, preparation.sent, lambda: preparation.wanted)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status
            result = error
        except BaseException as panic:  # noqa: BLE001 - a mistake in a library's Rust is no Exception
            result = RuntimeError(f"{type(panic).__name__}: {panic}")
        with suppress(RuntimeError):  # The loop is over, and nobody waits.
            loop.call_soon_threadsafe(self._made, preparation, result)

    def _made(self, preparation: Preparation, result: tuple[Tensors, float] | Exception) -> None:
        self._running[preparation.model.name] -= 1
        self._give_back(preparation)
        if preparation.wanted:
            self._over(preparation)
            if isinstance(result, Exception):
                preparation.failed(result)
            else:
                preparation.became = preparation.done(*result)
        self._fill()


def _row_bytes(model: Model) -> int:
    """Bytes of a row of what the steps make."""
    return sum(
        math.prod(spec.shape) * np.dtype(triton_to_np_dtype(spec.datatype)).itemsize
        for step in model.before
        for spec in step.makes
    )
