"""Parent and process over their real sockets, both in this one."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gearshift.processes import Orders, Parent
from gearshift.processes import parent as parent_module
from gearshift.processes.member import Member
from gearshift.processes.messages import (
    ASK,
    ASK_FRONTIER,
    BESIDE,
    EXEMPLARS,
    FRONTIER,
    METRICS,
    STATISTICS,
    SUM,
    TRITON,
)

ORDERS = Orders(3, (1, 2), 4, {"workers": 2, "repository": "/models"})


class NoProcess:
    pid = 0


@pytest.fixture
def ended() -> threading.Event:
    """Set when the process would have ended."""
    return threading.Event()


@pytest.fixture
def both(ended: threading.Event) -> Iterator[tuple[Member, Parent]]:
    connections, its_connections = socket.socketpair()
    control, its_control = socket.socketpair()
    process: Any = NoProcess()
    member = Member(process, connections, control)
    control.sendall(ORDERS.pack())
    parent = Parent(its_connections.detach(), its_control.detach(), end=lambda code: ended.set())
    assert parent.orders() == ORDERS
    yield member, parent
    ended.clear()
    member.close()
    assert ended.wait(5)
    parent._connections.close()
    parent._control.close()


def ask(member: Member, question: bytes, within: float = 5.0) -> bytes:
    return member.answer(member.ask(question), time.monotonic() + within)


def test_pages_are_answered_and_before_there_are_any_with_nothing(
    both: tuple[Member, Parent],
) -> None:
    member, parent = both
    assert ask(member, METRICS) == b""
    parent.show(lambda: b"m" * 1_000_000, lambda: b"t", lambda: b"b")
    assert ask(member, METRICS) == b"m" * 1_000_000
    assert ask(member, TRITON) == b"t"
    assert ask(member, BESIDE) == b"b"
    assert ask(member, EXEMPLARS) == b""
    parent.show_exemplars(lambda: b"e")
    assert ask(member, EXEMPLARS) == b"e"


def test_a_late_answer_is_not_taken_for_the_next_one(both: tuple[Member, Parent]) -> None:
    member, parent = both
    go = threading.Event()

    def slow() -> bytes:
        assert go.wait(10)
        return b"late"

    parent.show(slow, lambda: b"t" * 200_000, lambda: b"b")
    with pytest.raises(TimeoutError):
        ask(member, METRICS, within=0.02)
    go.set()
    assert ask(member, TRITON) == b"t" * 200_000


def test_an_answer_that_is_there_is_taken_however_late_it_is(both: tuple[Member, Parent]) -> None:
    member, parent = both
    parent.show(lambda: b"m", lambda: b"t", lambda: b"b")
    number = member.ask(TRITON)
    assert select.select([member._control], [], [], 5)[0]
    assert member.answer(number, time.monotonic() - 1) == b"t"
    with pytest.raises(TimeoutError):
        member.answer(number + 1, time.monotonic() - 1)


def test_a_page_that_cannot_be_made_ends_nothing(
    both: tuple[Member, Parent], ended: threading.Event
) -> None:
    member, parent = both
    parent.show(lambda: b"%d" % (1 // 0), lambda: b"t", lambda: b"b")
    assert ask(member, METRICS) == b""
    assert ask(member, TRITON) == b"t"
    assert not ended.is_set()


async def test_a_connection_goes_over_and_its_end_is_told(both: tuple[Member, Parent]) -> None:
    member, parent = both
    here, there = socket.socketpair()
    taken: asyncio.Queue[tuple[socket.socket, Any]] = asyncio.Queue()

    async def adopt(accepted: socket.socket, gone: Any) -> None:
        await taken.put((accepted, gone))

    parent.alive()
    parent.ready(adopt, nobody)
    assert member.signs() == b"ar"
    with here:
        with there:
            member.hand(there)
        accepted, gone = await asyncio.wait_for(taken.get(), 5)
        with accepted:
            accepted.sendall(b"hello")
        assert here.recv(10) == b"hello"
    gone()
    parent.draining()
    assert member.signs() == b"cd"


async def test_one_who_left_before_it_was_served_is_told_as_over(
    both: tuple[Member, Parent],
) -> None:
    member, parent = both
    tried = asyncio.Event()

    async def adopt(accepted: socket.socket, gone: Any) -> None:
        tried.set()
        raise ConnectionResetError

    parent.ready(adopt, nobody)
    here, there = socket.socketpair()
    with here, there:
        member.hand(there)
        await asyncio.wait_for(tried.wait(), 5)
    await asyncio.sleep(0)
    assert member.signs() == b"rc"


async def test_one_from_inside_is_taken_as_such(both: tuple[Member, Parent]) -> None:
    member, parent = both
    taken: asyncio.Queue[bool] = asyncio.Queue()

    async def adopt(accepted: socket.socket, gone: Any) -> None:
        accepted.close()
        await taken.put(False)

    async def adopt_inside(accepted: socket.socket, gone: Any) -> None:
        accepted.close()
        await taken.put(True)

    parent.ready(adopt, adopt_inside)
    here, there = socket.socketpair()
    with here, there:
        member.hand(there, inside=True)
        assert await asyncio.wait_for(taken.get(), 5)
        member.hand(there)
        assert not await asyncio.wait_for(taken.get(), 5)


def tell(member: Member, total: bytes, sign: bytes = SUM) -> None:
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(total)
        member.tell(file.fileno(), sign)


async def test_the_sum_of_all_is_asked_for_and_told_in_order(both: tuple[Member, Parent]) -> None:
    member, parent = both
    parent.show_statistics(lambda: b"mine")
    assert await asyncio.to_thread(ask, member, STATISTICS) == b"mine"
    parent.ready(nobody, nobody)
    assert member.signs() == b"r"
    asked = [asyncio.ensure_future(parent.sum()) for _ in range(3)]
    await asyncio.sleep(0)
    assert member.signs() == ASK * 3
    asked[1].cancel()
    for total in (b"first" * 100_000, b"second", b"third"):
        tell(member, total)
    assert await asyncio.wait_for(asked[0], 5) == b"first" * 100_000
    assert await asyncio.wait_for(asked[2], 5) == b"third"
    descriptors = len(os.listdir("/dev/fd"))
    asked = [asyncio.ensure_future(parent.sum())]
    await asyncio.sleep(0)
    tell(member, b"")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asked[0], 5)
    assert len(os.listdir("/dev/fd")) == descriptors


async def test_a_sum_that_is_not_told_is_not_waited_for_and_not_taken_for_the_next(
    both: tuple[Member, Parent], monkeypatch: pytest.MonkeyPatch
) -> None:
    member, parent = both
    parent.ready(nobody, nobody)
    with monkeypatch.context() as hasty:
        hasty.setattr(parent_module, "SUM_WITHIN", 0.01)
        with pytest.raises(TimeoutError):
            await parent.sum()
    asked = asyncio.ensure_future(parent.sum())
    await asyncio.sleep(0)
    tell(member, b"late")
    tell(member, b"right")
    assert await asyncio.wait_for(asked, 5) == b"right"


async def test_the_frontier_is_asked_for_beside_the_sum_and_not_taken_for_it(
    both: tuple[Member, Parent],
) -> None:
    member, parent = both
    parent.ready(nobody, nobody)
    asked = asyncio.ensure_future(parent.sum()), asyncio.ensure_future(parent.frontier())
    await asyncio.sleep(0)
    assert member.signs() == b"r" + ASK + ASK_FRONTIER
    tell(member, b"frontier", FRONTIER)
    tell(member, b"sum", SUM)
    assert await asyncio.wait_for(asyncio.gather(*asked), 5) == [b"sum", b"frontier"]


async def nobody(accepted: socket.socket, gone: Any) -> None:
    raise AssertionError("no connection was handed over")


async def test_stop_is_heard_on_the_loop(both: tuple[Member, Parent]) -> None:
    member, parent = both
    stop = asyncio.Event()
    parent.on_stop(stop.set, asyncio.get_running_loop())
    member.stop()
    await asyncio.wait_for(stop.wait(), 5)


def test_one_that_is_told_to_stop_before_it_serves_ends(
    both: tuple[Member, Parent], ended: threading.Event
) -> None:
    member, _ = both
    member.stop()
    assert ended.wait(5)
