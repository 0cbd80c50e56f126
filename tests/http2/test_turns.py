"""No connection is read for long at a stretch, and none is left out."""

from __future__ import annotations

import asyncio
import itertools
import socket

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from gearshift.core.limits import Usage
from gearshift.http2 import Connection, Stream, frames, turns
from gearshift.http2.frame_reader import MOST_UNREAD
from gearshift.http2.given_up import MOST, GivenUp
from gearshift.http2.leaving import CLOSE_WAIT, CLOSED, LAST_ACK
from gearshift.http2.turns import SLICE, Turns
from virtual import virtual


class Now:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.at = 10.0

    def __call__(self) -> float:
        return self.at


class Transport:
    def __init__(self) -> None:
        self.reading = True
        self.written = b""
        self.state = 1  # established
        self.aborted = False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def write(self, data: bytes) -> None:
        self.written += data

    def get_extra_info(self, name: str) -> Transport | None:
        return self if name == "socket" else None

    def setsockopt(self, *option: int) -> None:
        pass

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option, size) == (socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return bytes((self.state,))

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return False


class Served:
    """A connection each of whose requests takes `cost` seconds to read."""

    def __init__(self, taken: list[str], name: str, shared: Turns, now: Now, cost: float) -> None:
        def accept(stream: Stream, path: str) -> Served:
            now.at += cost
            taken.append(name)
            self.ages.append(now.at - cost - stream.received)
            return self

        self.ages: list[float] = []
        self.transport = Transport()
        self.connection: Connection[str] = Connection(
            lambda fields: "", accept, lambda _: None, usage=Usage(), turns=shared
        )
        self.connection.connection_made(self.transport)
        self.client = H2Connection(H2Configuration(client_side=True))
        self.client.initiate_connection()
        self._next = 1

    def data(self, payload: bytes, *, ended: bool) -> None:
        pass

    def cancelled(self) -> None:
        pass

    def send(self, requests: int) -> None:
        fields = [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "x")]
        for _ in range(requests):
            self.client.send_headers(self._next, fields, end_stream=True)
            self._next += 2
        self.connection.data_received(self.client.data_to_send())

    def cancel(self, numbers: list[int]) -> None:
        for number in numbers:
            self.client.reset_stream(number, frames.CANCEL)
        self.connection.data_received(self.client.data_to_send())


@pytest.fixture
def now(monkeypatch):
    made = Now()
    monkeypatch.setattr("gearshift.http2.frame_reader.time.monotonic", made)
    return made


async def until_read(taken: list[str], count: int) -> None:
    async with asyncio.timeout(100):
        while len(taken) < count:  # noqa: ASYNC110
            await asyncio.sleep(0)


@virtual
async def test_connections_are_read_in_turns(now):
    taken: list[str] = []
    shared = Turns(now=now)
    loud, quiet = (Served(taken, name, shared, now, SLICE / 4) for name in ("loud", "quiet"))
    loud.send(40)
    quiet.send(1)
    # The slice was used up, and one frame more for who came next.
    assert taken.count("loud") <= 5
    await until_read(taken, 41)
    assert "quiet" in taken[:12]


@virtual
async def test_other_work_of_the_loop_goes_on_between_two_slices(now):
    taken: list[str] = []
    served = Served(taken, "", Turns(now=now), now, SLICE)
    served.send(20)
    seen = []

    def work() -> None:
        seen.append(len(taken))
        if len(taken) < 20:
            asyncio.get_running_loop().call_soon(work)

    work()
    await until_read(taken, 20)
    assert max(after - before for before, after in itertools.pairwise(seen)) <= 2


@virtual
async def test_a_request_is_as_old_as_its_bytes(now):
    taken: list[str] = []
    served = Served(taken, "", Turns(now=now), now, SLICE)
    served.send(10)
    await until_read(taken, 10)
    assert served.ages == pytest.approx([SLICE * number for number in range(10)])


@virtual
async def test_who_sends_more_than_can_be_read_is_not_read_from(now):
    taken: list[str] = []
    served = Served(taken, "", Turns(now=now), now, SLICE)
    served.send(2)
    while served.transport.reading:
        served.send(100)
    assert served.connection._unread_size > MOST_UNREAD
    while not served.transport.reading:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert served.connection._unread_size <= MOST_UNREAD


@pytest.mark.parametrize("state", [CLOSED, CLOSE_WAIT, LAST_ACK])
@virtual
async def test_what_the_dead_have_left_is_not_read(state, now):
    """Who is not read from any more can leave without that being noticed."""
    taken: list[str] = []
    shared = Turns(now=now)
    served = Served(taken, "", shared, now, SLICE)
    while served.transport.reading:
        served.send(100)
    await asyncio.sleep(0)
    assert not served.transport.aborted
    before = len(taken)
    served.transport.state = state
    await asyncio.sleep(0)
    assert served.transport.aborted
    served.connection.connection_lost(None)
    for _ in range(30):
        await asyncio.sleep(0)
    assert len(taken) == before


@virtual
async def test_what_is_over_is_read_no_more(now):
    taken: list[str] = []
    shared = Turns(now=now)
    served = Served(taken, "", shared, now, SLICE)
    served.send(10)
    before = len(taken)
    served.connection.connection_lost(None)
    for _ in range(30):
        await asyncio.sleep(0)
    assert len(taken) == before
    assert not shared._waiting


@virtual
async def test_who_gives_up_before_being_read_costs_no_more_than_that(now):
    """Of a hundred callers all but three leave while they wait to be read."""
    taken: list[str] = []
    served = Served(taken, "", Turns(now=now), now, SLICE)
    served.send(100)
    stay = [151, 199]
    served.cancel([number for number in range(1, 201, 2) if number not in stay])
    await until_read(taken, 3)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(taken) == 3  # one was read before anybody waited
    assert list(served.connection.streams) == stay
    assert served.connection.usage.given_up == 97
    assert not served.connection.given_up.streams
    # Who asks later is as welcome as ever.
    served.send(1)
    assert len(taken) == 4
    assert served.transport.reading


@pytest.mark.parametrize("size", [1, 5, 9, 13, 1_000])
def test_it_is_seen_however_the_bytes_are_cut(size):
    given_up = GivenUp()
    data = b"".join(
        frames.frame(frames.DATA, 0, number, bytes(number))
        + frames.rst_stream(number, frames.CANCEL)
        for number in range(1, 41, 2)
    )
    for at in range(0, len(data), size):
        given_up.look(data[at : at + size])
    assert given_up.streams == set(range(1, 41, 2))
    # What is left of a frame says nothing of the bytes behind it.
    given_up.look(frames.head(100, frames.DATA, 0, 1))
    given_up.begin()
    given_up.look(frames.rst_stream(99, frames.CANCEL))
    assert 99 in given_up.streams


def test_not_more_are_remembered_than_wait():
    given_up = GivenUp()
    given_up.look(b"".join(frames.rst_stream(2 * n + 1, frames.CANCEL) for n in range(10_000)))
    assert len(given_up.streams) == MOST


@virtual
async def test_a_rest_is_for_connections_of_one_client_and_ends(now):
    one, many = (Served([], "", Turns(now=now), now, 0.0) for _ in range(2))
    for client in ("a", "b"):
        one.connection.used_by("a")
        many.connection.used_by(client)
    for served in (one, many):
        served.connection.rest(0.05)
    assert (one.transport.reading, many.transport.reading) == (False, True)
    await asyncio.sleep(0.06)
    assert one.transport.reading


def test_the_slice_is_short():
    """A budget of ten milliseconds must outlive a few of them."""
    assert turns.SLICE <= 0.002
