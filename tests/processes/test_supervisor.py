"""The supervisor over processes that are none: starts, replacements, connections, the end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from fake_member import FakeMember
from gearshift.errors import ProcessFailed
from gearshift.processes import Fleet, Orders, Pages, Supervisor, Total
from gearshift.processes.messages import (
    ALIVE,
    ASK,
    ASK_FRONTIER,
    CLOSED,
    DRAINING,
    FRONTIER,
    READY,
    STATISTICS,
    SUM,
)


class Bench:
    def __init__(self, count: int) -> None:
        self.lives: list[tuple[int, FakeMember]] = []
        self.broken = False
        orders = [Orders(index, (), index, {}) for index in range(count)]
        pages = Pages()
        self.total = Total(pages, STATISTICS, lambda parts: b"+".join(filter(None, parts)))
        self.supervisor = Supervisor(
            orders, Fleet([1] * count), pages, self.total, lambda: b"frontier", self.launch
        )

    def launch(self, orders: Orders) -> FakeMember:
        if self.broken:
            raise OSError(11, "Resource temporarily unavailable")
        made = FakeMember()
        self.lives.append((orders.index, made))
        return made

    def last(self, index: int) -> FakeMember:
        return [member for number, member in self.lives if number == index][-1]

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not done():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.002)

    async def serve(self) -> None:
        starting = asyncio.ensure_future(self.supervisor.start())
        count = self.supervisor.fleet.wanted
        await asyncio.sleep(0)
        self.last(0).say(ALIVE + READY)
        await self.until(lambda: len(self.lives) == count)
        assert not self.supervisor.ready
        for index in range(1, count):
            self.last(index).say(READY)
        await asyncio.wait_for(starting, 10)
        assert self.supervisor.ready

    def give(self) -> bool:
        """A connection comes; whether it was closed or handed on."""
        here, there = socket.socketpair()
        there.close()
        with here:
            return self.supervisor.give(here)


async def test_all_start_the_first_one_alone() -> None:
    bench = Bench(3)
    await bench.serve()
    assert [index for index, _ in bench.lives] == [0, 1, 2]
    bench.supervisor.close()
    assert all(member.killed for _, member in bench.lives)
    assert all(member.closed for _, member in bench.lives)


async def test_one_that_dies_is_replaced_while_the_others_serve() -> None:
    bench = Bench(2)
    await bench.serve()
    bench.last(0).end()
    await bench.until(lambda: len(bench.lives) == 3)
    assert bench.supervisor.ready
    assert bench.supervisor.fleet.serving == 1
    assert bench.lives[0][1].closed
    assert bench.give()
    assert bench.last(1).handed == 1
    bench.last(0).say(READY)
    await bench.until(lambda: bench.supervisor.fleet.serving == 2)
    assert bench.give()
    assert bench.last(0).handed == 1
    bench.supervisor.close()


async def test_without_anybody_who_serves_it_is_not_ready_and_connections_are_closed() -> None:
    bench = Bench(1)
    await bench.serve()
    bench.last(0).end()
    await bench.until(lambda: not bench.supervisor.ready)
    assert bench.give()
    bench.supervisor.close()


async def test_one_that_ends_before_all_were_ready_ends_the_start() -> None:
    bench = Bench(2)
    starting = asyncio.ensure_future(bench.supervisor.start())
    await asyncio.sleep(0)
    bench.last(0).end(1)
    with pytest.raises(ProcessFailed, match="process 0 ended with exit code 1"):
        await asyncio.wait_for(starting, 10)
    bench.supervisor.close()
    assert len(bench.lives) == 1


async def test_a_system_without_room_for_a_process_ends_the_start_but_not_the_server() -> None:
    bench = Bench(1)
    bench.broken = True
    with pytest.raises(ProcessFailed, match="cannot be started: Resource"):
        await bench.supervisor.start()
    bench = Bench(1)
    await bench.serve()
    bench.broken = True
    bench.last(0).end()
    await bench.until(lambda: bench.supervisor.fleet.replaced >= 2)
    bench.broken = False
    await bench.until(lambda: len(bench.lives) == 2)
    bench.supervisor.close()


async def test_connections_are_spread_evenly_and_kept_where_all_are_full() -> None:
    bench = Bench(2)
    await bench.serve()
    for _ in range(10):
        assert bench.give()
    assert [bench.last(i).handed for i in (0, 1)] == [5, 5]
    bench.last(1).say(CLOSED * 3)
    await bench.until(lambda: bench.supervisor.fleet.connections(1) == 2)
    for _ in range(3):
        assert bench.give()
    assert [bench.last(i).handed for i in (0, 1)] == [5, 8]
    bench.last(0).full = True
    assert bench.give()
    assert bench.last(1).handed == 9
    bench.last(1).full = True
    assert not bench.give()
    bench.supervisor.close()


async def test_whoever_asks_is_told_what_all_have_counted() -> None:
    bench = Bench(2)
    await bench.serve()
    for index in (0, 1):
        bench.last(index).pages[STATISTICS] = b"of %d" % index
    bench.last(1).say(ASK + ASK)
    await bench.until(lambda: len(bench.last(1).told) == 2)
    assert bench.last(1).told == [b"of 0+of 1"] * 2
    assert bench.last(0).told == []
    # What one had told that has ended stays.
    bench.last(0).end()
    await bench.until(lambda: len(bench.lives) == 3)
    bench.last(1).pages[STATISTICS] = b"more of 1"
    for _ in range(2):
        bench.last(1).say(ASK)
        await bench.until(
            lambda: bench.supervisor._answering[ASK]._telling is None and not bench.last(1).told[2:]
        )
        await bench.until(lambda: len(bench.last(1).told) == 3)
        assert bench.last(1).told.pop() == b"of 0+more of 1"
    bench.supervisor.close()


async def test_a_question_is_answered_later_where_there_is_no_room_and_not_where_nobody_is() -> (
    None
):
    bench = Bench(2)
    await bench.serve()
    for index in (0, 1):
        bench.last(index).pages[STATISTICS] = b"of %d" % index
    bench.last(0).full = True
    bench.last(0).say(ASK)
    bench.last(1).say(ASK)
    await bench.until(lambda: bench.last(1).told == [b"of 0+of 1"])
    assert bench.last(0).told == []
    bench.last(0).full = False
    await bench.until(lambda: bench.last(0).told == [b"of 0+of 1"])
    bench.last(0).say(ASK)
    bench.last(0).end()
    await bench.until(lambda: len(bench.lives) == 3)
    bench.last(1).say(ASK)
    await bench.until(lambda: len(bench.last(1).told) == 2)
    bench.supervisor.close()


async def test_a_total_that_cannot_be_made_is_none_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(1)
    await bench.serve()
    bench.last(0).pages[STATISTICS] = b"of 0"
    with monkeypatch.context() as broken:
        broken.setattr(bench.total, "_add", lambda parts: 1 // 0)
        bench.last(0).say(ASK)
        await bench.until(lambda: bench.last(0).told == [b""])
    bench.last(0).say(ASK)
    await bench.until(lambda: bench.last(0).told == [b"", b"of 0"])
    bench.supervisor.close()


async def test_the_frontier_is_told_beside_the_total() -> None:
    bench = Bench(1)
    await bench.serve()
    bench.last(0).pages[STATISTICS] = b"of 0"
    bench.last(0).say(ASK_FRONTIER + ASK)
    await bench.until(lambda: len(bench.last(0).told) == 2)
    told = dict(zip(map(bytes, zip(bench.last(0).signs_told)), bench.last(0).told, strict=True))
    assert told == {FRONTIER: b"frontier", SUM: b"of 0"}
    bench.supervisor.close()


async def test_what_a_process_has_said_counts_for_the_next_connection() -> None:
    """Whom it sent away comes at once, perhaps before the loop has looked at what it said."""
    bench = Bench(2)
    await bench.serve()
    bench.last(0).say(DRAINING)
    assert bench.give()
    assert [bench.last(index).handed for index in (0, 1)] == [0, 1]
    # One that has ended is heard of once, however often somebody comes until it is gone.
    bench.last(1).end()
    for _ in range(3):
        assert bench.give()
    await bench.until(lambda: len(bench.lives) == 3)
    bench.supervisor.close()


async def test_drain_asks_those_that_serve_and_ends_those_that_start() -> None:
    bench = Bench(3)
    await bench.serve()
    bench.last(2).end()
    await bench.until(lambda: len(bench.lives) == 4)
    drained = asyncio.ensure_future(bench.supervisor.drain(10))
    await asyncio.sleep(0.01)
    assert not bench.supervisor.ready
    assert bench.last(0).stopped
    assert bench.last(1).stopped
    assert bench.last(2).killed
    for index in (0, 1):
        bench.last(index).say(DRAINING)
    await bench.until(lambda: bench.supervisor.fleet.serving == 0)
    assert bench.give()
    assert bench.last(0).handed + bench.last(1).handed == 1
    for index in (0, 1):
        bench.last(index).end(0)
    await asyncio.wait_for(drained, 10)
    bench.supervisor.close()
    assert len(bench.lives) == 4


async def test_drain_does_not_wait_for_ever() -> None:
    bench = Bench(1)
    await bench.serve()
    await asyncio.wait_for(bench.supervisor.drain(0.02), 10)
    bench.supervisor.close()
    assert bench.last(0).killed
