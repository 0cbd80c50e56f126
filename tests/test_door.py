"""The port over real sockets: closed until it is opened, patient where nobody has room."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from gearshift import door as door_module
from gearshift.door import Door, bound, release
from gearshift.errors import ConfigurationInvalid


@pytest.fixture
def listeners() -> Iterator[list[socket.socket]]:
    made = bound("127.0.0.1", 0)
    yield made
    release(made)


def connect(listeners: list[socket.socket]) -> socket.socket:
    return socket.create_connection(listeners[0].getsockname(), timeout=5)


async def test_until_it_is_opened_callers_are_refused(listeners: list[socket.socket]) -> None:
    with pytest.raises(ConnectionRefusedError):
        connect(listeners)
    given: list[socket.socket] = []
    door = Door(listeners, lambda accepted: given.append(accepted) is None)
    door.open()
    with connect(listeners):
        async with asyncio.timeout(5):
            while not given:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.002)
        assert given[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    door.shut()
    given[0].close()


async def test_a_connection_that_nobody_has_room_for_is_offered_again(
    listeners: list[socket.socket],
) -> None:
    offered: list[socket.socket] = []

    def give(accepted: socket.socket) -> bool:
        offered.append(accepted)
        return len(offered) > 2

    door = Door(listeners, give)
    door.open()
    with connect(listeners), connect(listeners):
        async with asyncio.timeout(5):
            while len(offered) < 4:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.002)
    door.shut()
    assert offered[0] is offered[1] is offered[2]
    assert offered[3] is not offered[0]
    for accepted in set(offered):
        accepted.close()


async def test_what_is_held_when_the_door_is_shut_is_closed(listeners: list[socket.socket]) -> None:
    held: list[socket.socket] = []
    door = Door(listeners, lambda accepted: held.append(accepted) is not None)
    door.open()
    with connect(listeners) as caller:
        async with asyncio.timeout(5):
            while not held:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.002)
        door.shut()
        caller.settimeout(5)
        assert caller.recv(1) == b""


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationInvalid, match=f"127.0.0.1:{port} for gRPC.*--grpc-port"):
            bound("127.0.0.1", port)


async def test_a_port_that_another_took_meanwhile_is_one_clear_line() -> None:
    first = bound("127.0.0.1", 0)
    second = bound("127.0.0.1", first[0].getsockname()[1])
    first[0].listen()
    with pytest.raises(ConfigurationInvalid, match="--grpc-port"):
        Door(second, lambda accepted: True).open()
    release(first + second)


def test_every_address_of_a_name_gets_the_same_port() -> None:
    made = bound("localhost", 0)
    assert len({each.getsockname()[1] for each in made}) == 1
    release(made)


def test_a_name_that_is_none_is_told() -> None:
    with pytest.raises(ConfigurationInvalid, match="no such host"):
        bound("no such host", 0)


async def test_where_no_descriptor_is_left_the_door_waits_and_then_takes_who_waited(
    listeners: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must neither spin nor end: accept() fails at once, as long as the queue is not empty."""
    monkeypatch.setattr(door_module, "BROKEN_PAUSE", 0.1)
    asked = 0
    full = True

    class Full:
        """A listener that the system gives no descriptor for a connection."""

        def __init__(self, real: socket.socket) -> None:
            self.real = real

        def accept(self) -> tuple[socket.socket, object]:
            nonlocal asked
            asked += 1
            if full:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return self.real.accept()

        def fileno(self) -> int:
            return self.real.fileno()

        def listen(self, backlog: int) -> None:
            self.real.listen(backlog)

    given: list[socket.socket] = []
    door = Door(
        [cast(socket.socket, Full(each)) for each in listeners],
        lambda accepted: given.append(accepted) is None,
    )
    door.open()
    with connect(listeners):
        await asyncio.sleep(0.35)
        assert not given
        assert 1 <= asked <= 5
        full = False
        async with asyncio.timeout(5):
            while not given:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
    door.shut()
    given[0].close()
