"""The gRPC server: a port, the connections that come to it, and what health checks hear."""

from __future__ import annotations

import asyncio
import math
import random
import socket
import ssl
import time
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from gearshift.core.catalog import Catalog, Model
from gearshift.core.limits import Usage
from gearshift.door import Door, bound, release
from gearshift.errors import CannotListen, RequestError
from gearshift.http2 import Connection, Turns
from gearshift.rpc.accepting import Acceptor
from gearshift.rpc.gate import Caller, Gate, Names, address_of, no_names
from gearshift.rpc.health import NOT_SERVING, SERVING, Health
from gearshift.rpc.infer import SERVICE
from gearshift.rpc.methods import Methods
from gearshift.rpc.sweeping import Sweeper
from gearshift.rpc.wire import Call, read_call
from gearshift.v1 import gearshift_pb2

log = structlog.get_logger(__name__)

CONTROL = gearshift_pb2.DESCRIPTOR.services_by_name["Gearshift"].full_name
OURS = ("", SERVICE, CONTROL)
"""The health services beside those of the models."""

LIVE = "live"
"""Health service that serves as long as the process is worth keeping: for liveness probes, which
must not kill a server for draining."""

SWEEP_EVERY = 5.0
"""Seconds. So often it is looked who has begun something and not gone on with it; a connection that
has said nothing in that time is closed."""

SLEPT = 2 * SWEEP_EVERY
"""Seconds between two such looks from which on this process was kept from running."""

HEARD_WITHIN = 1.0
"""Seconds that callers get to hear that they should go elsewhere: a round trip, and a busy loop."""

HANDSHAKE_WITHIN = 10.0
"""Seconds for a TLS handshake; who takes longer is disconnected."""


class RpcServer:
    """A listening server; `port` is the bound one. A connection older than `connection_age`
    seconds, more or less, is sent on."""

    def __init__(
        self,
        methods: Methods,
        health_: Health,
        models: Collection[str],
        follows: Callable[[Catalog], None],
        connection_age: float = math.inf,
        *,
        usage: Usage,
        count: Callable[[RequestError, float], None],
        gate: Gate | None = None,
        names: Names = no_names,
        ends: Callable[[], None] = lambda: None,
    ) -> None:
        """`usage` is what all connections make the server keep; `count` is told of inference
        requests that are refused before they are read, with their arrival. `names` reads those of
        a client's certificate. `follows` is told of another catalog, `ends` that all is over."""
        self._accepting = Acceptor(methods, gate or Gate(None, None), usage, count)
        self._names = names
        self._connection_age = connection_age
        self._ages: dict[Connection[Call], float] = {}
        """When each has lived long enough (`time.monotonic`)."""
        self._health = health_
        self._models = set(models)
        self._follows = follows
        self._ends = ends
        self._telling: set[asyncio.Task[None]] = set()
        self._connections: set[Connection[Call]] = set()
        self._turns = Turns()
        self._usage = usage
        self._sweeping = Sweeper(usage)
        self._opening: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._swept_at = math.inf
        self._empty = asyncio.Event()
        self._empty.set()
        self._elsewhere = False
        self._door: Door | None = None
        self._listeners: list[socket.socket] = []
        self.port = 0

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """CannotListen if the port is taken."""
        self._listeners = await asyncio.to_thread(bound, host, port)
        self._door = Door(self._listeners, partial(self._give, tls=tls))
        try:
            self._door.open()
        except CannotListen:
            self._shut()
            raise
        self.port = self._listeners[0].getsockname()[1]

    def _give(self, accepted: socket.socket, tls: ssl.SSLContext | None) -> bool:
        task = asyncio.ensure_future(self._open(accepted, tls))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True

    async def _open(self, accepted: socket.socket, tls: ssl.SSLContext | None) -> None:
        try:
            await self.adopt(accepted, _nobody_waits, tls)
        except OSError:
            accepted.close()

    async def adopt(
        self,
        accepted: socket.socket,
        gone: Callable[[], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Serve a connection that somebody else has accepted; `gone` is called when it is over.
        OSError if it is over already, or one too many, or its handshake fails, and then `gone` is
        not called."""
        await self._adopt(accepted, gone, tls, inside=False)

    async def _adopt(
        self,
        accepted: socket.socket,
        gone: Callable[[], None],
        tls: ssl.SSLContext | None,
        *,
        inside: bool,
    ) -> None:
        peer = address_of(accepted.getpeername())
        if not self._usage.enter(peer):
            raise ConnectionRefusedError("as many connections as there may be")
        made: list[Connection[Call]] = []

        def over() -> None:
            self._usage.leave(peer)
            gone()

        def connect() -> Connection[Call]:
            made.append(self._connect(over, inside=inside))
            return made[0]

        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                connect,
                accepted,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else HANDSHAKE_WITHIN,
            )
        except BaseException:
            # It never became a connection, so that nobody else says that it is over.
            if not made or self._forget(made[0]):
                self._usage.leave(peer)
            raise

    async def adopt_inside(self, accepted: socket.socket, gone: Callable[[], None]) -> None:
        """The same for a connection of this very program, which may do everything."""
        await self._adopt(accepted, gone, None, inside=True)

    async def not_serving(self) -> None:
        """Tell health checks that this server takes nothing new; it stays live."""
        for service in (*OURS, *self._models):
            await self._health.set(service, NOT_SERVING)

    def follow(self, catalog: Catalog) -> None:
        """Another catalog is served from now on."""
        self._follows(catalog)
        for name in self._models.symmetric_difference(catalog.models):
            self._tell(self._health.set(name, SERVING if name in catalog.models else NOT_SERVING))
        self._models = set(catalog.models)

    def forget(self, model: Model) -> None:
        """The last request of this generation is over."""
        if model.name not in self._models:
            self._tell(self._health.forget(model.name))

    def _tell(self, telling: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(telling)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def alive(self, alive: bool) -> None:
        """Tell health checks whether this process is worth keeping. One that is not takes what it
        still can, but should get nothing new."""
        for service in (LIVE, *OURS, *self._models):
            if service == LIVE or not self._elsewhere:
                await self._health.set(service, SERVING if alive else NOT_SERVING)

    async def send_away(self) -> None:
        """Let every caller go on over a new connection, to a server that takes requests: this one
        refuses connections from now on. What callers send until they have heard of it must still
        be taken; returns when all have heard, or HEARD_WITHIN is over. What is open is answered."""
        self._elsewhere = True
        # A caller who came back here would be refused until the end, and not look elsewhere.
        self._shut()
        unheard = set(self._connections)
        all_heard = asyncio.Event()

        def heard(connection: Connection[Call]) -> None:
            unheard.discard(connection)
            if not unheard:
                all_heard.set()

        for connection in list(unheard):
            connection.bid_farewell(partial(heard, connection))
        if unheard:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARD_WITHIN):
                    await all_heard.wait()
        for connection in list(unheard):
            connection.leave()

    async def stop(self, grace: float, most: float = 0.0) -> None:
        """Close the port. Calls still open get `grace` seconds, and then as long again as their
        callers read on, up to `most` seconds in all."""
        try:
            await self._empty_within(grace, most)
        finally:
            self._ends()
            self._accepting.close()

    async def _empty_within(self, grace: float, most: float) -> None:
        self._shut()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._connections):
            connection.leave()
        loop = asyncio.get_running_loop()
        until, unread = loop.time() + max(grace, most), math.inf
        while loop.time() < until and (now := self._unread()) < unread:
            unread = now
            with suppress(TimeoutError):
                async with asyncio.timeout(min(grace, until - loop.time())):
                    await self._empty.wait()
                    return
        for connection in list(self._connections):
            connection.abort()

    def _unread(self) -> int:
        """Bytes of answers that their callers have not read."""
        for connection in self._connections:
            connection.look()
        return self._usage.unread

    def _shut(self) -> None:
        door, self._door = self._door, None
        if door is not None:
            door.shut()
            release(self._listeners)

    def sweep(self) -> None:
        """End what was begun and not gone on with."""
        loop = asyncio.get_running_loop()
        before, self._swept_at = self._swept_at, loop.time()
        self._sweeping.sweep(self._connections, slept=self._swept_at - before > SLEPT)
        self._send_on()
        self._sweeper = loop.call_later(SWEEP_EVERY, self.sweep)

    def _send_on(self) -> None:
        """Let those who have been here for long connect anew: whoever balances by himself then
        finds the replicas that have come since. It costs no request."""
        now, loop = time.monotonic(), asyncio.get_running_loop()
        for connection in [each for each, until in self._ages.items() if until < now]:
            del self._ages[connection]
            connection.bid_farewell(_nobody_waits)
            loop.call_later(HEARD_WITHIN, connection.leave)

    def _connect(self, gone: Callable[[], None], *, inside: bool = False) -> Connection[Call]:
        caller = Caller(inside=inside)

        def over(connection: Connection[Call]) -> None:
            if self._forget(connection):
                gone()

        connection = Connection(
            read_call,
            partial(self._accepting.accept, caller),
            over,
            usage=self._usage,
            made=lambda connection: caller.connected(connection, self._names),
            turns=self._turns,
        )
        self._connections.add(connection)
        if self._connection_age < math.inf:
            # Not all at once: they came together when a server started.
            self._ages[connection] = time.monotonic() + self._connection_age * random.uniform(
                0.9, 1.1
            )
        self._empty.clear()
        if self._elsewhere:  # it was accepted before that
            connection.leave()
        return connection

    def _forget(self, connection: Connection[Call]) -> bool:
        """It is over; False if that was known."""
        if connection not in self._connections:
            return False
        self._connections.remove(connection)
        self._ages.pop(connection, None)
        if not self._connections:
            self._empty.set()
        return True


def _nobody_waits() -> None:
    """Who is sent on in passing is not waited for."""
