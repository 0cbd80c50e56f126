"""The gRPC server: inference, health and reflection on one port."""

from __future__ import annotations

import asyncio
import math
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from tritonclient.grpc import service_pb2_grpc

from gearshift.core.rights import EVERYTHING
from gearshift.engine import Engine
from gearshift.errors import CannotListen
from gearshift.http2 import MAX_STREAMS, NOBODY, Connection, Receiver, Stream, Turns
from gearshift.ports import Feedback
from gearshift.rpc import wire
from gearshift.rpc.calls import StreamCall, UnaryCall
from gearshift.rpc.control import GearshiftServicer
from gearshift.rpc.frontier import Frontier
from gearshift.rpc.infer import SERVICE, STREAM, UNARY, Inferences
from gearshift.rpc.infer_stream import InferStream
from gearshift.rpc.inference import Everyone, InferenceServicer
from gearshift.rpc.methods import Methods
from gearshift.rpc.shapes import Shapes
from gearshift.rpc.shared_memory import SharedMemory
from gearshift.rpc.wire import Call, read_call
from gearshift.v1 import gearshift_pb2, gearshift_pb2_grpc

log = structlog.get_logger(__name__)

CONTROL = gearshift_pb2.DESCRIPTOR.services_by_name["Gearshift"].full_name
LIVE = "live"
"""Health service that serves as long as the process runs: for liveness probes, which must
not kill a server for draining."""

SWEEP_EVERY = 5.0
UNFINISHED = 60.0
"""Seconds. So often it is looked who has begun something and not gone on: a connection that has
said nothing in that time is closed, a request that is not complete after UNFINISHED is ended."""

HEARD_WITHIN = 1.0
"""Seconds that callers get to hear that they should go elsewhere: a round trip, and a busy loop."""

STREAMS_BEHIND, FEWEST_STREAMS = 256, 4
"""Requests at a time that callers are asked to keep to, all together, and each connection at least,
while more comes than can be read."""

BACKLOG = 4_096
"""Connections that may wait to be taken; a fleet may come back all at once."""


class RpcServer:
    """A listening server; `port` is the bound one. A connection older than `connection_age`
    seconds, more or less, is sent on."""

    def __init__(
        self,
        methods: Methods,
        health_: Any,
        services: list[str],
        connection_age: float = math.inf,
    ) -> None:
        self._methods = methods
        self._connection_age = connection_age
        self._turns = Turns(self._falls_behind)
        self._behind = False
        self._ages: dict[Connection[Call], float] = {}
        """When each has lived long enough (`time.monotonic`)."""
        self._health = health_
        self._services = services
        self._connections: set[Connection[Call]] = set()
        self._silent: set[Connection[Call]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self._elsewhere = False
        self._listener: asyncio.Server | None = None
        self.port = 0

    async def listen(self, host: str, port: int) -> None:
        """CannotListen if the port is taken."""
        try:
            # Two servers on one port would each see half of the load, and neither know.
            self._listener = await asyncio.get_running_loop().create_server(
                self._connect, host, port, reuse_port=False, backlog=BACKLOG
            )
        except OSError as error:
            raise CannotListen(host, port, "gRPC", error) from None
        self.port = self._listener.sockets[0].getsockname()[1]

    async def adopt(self, accepted: socket.socket, gone: Callable[[], None]) -> None:
        """Serve a connection that somebody else has accepted; `gone` is called when it is over.
        OSError if it is over already, and then `gone` is not called."""
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: self._connect(gone), accepted
        )

    async def not_serving(self) -> None:
        """Tell health checks that this server takes nothing new; it stays live."""
        for service in self._services:
            await self._health.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)

    async def send_away(self) -> None:
        """Let every caller go on over a new connection, to a server that takes requests: this one
        refuses connections from now on. What callers send until they have heard of it must still
        be taken; returns when all have heard, or HEARD_WITHIN is over. What is open is answered."""
        self._elsewhere = True
        if self._listener is not None:
            # A caller who came back here would be refused until the end, and not look elsewhere.
            self._listener.close()
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

    async def stop(self, grace: float) -> None:
        """Close the port; calls still open get `grace` seconds."""
        if self._listener is not None:
            self._listener.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._connections):
            connection.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._empty.wait()
        for connection in list(self._connections):
            connection.abort()

    def sweep(self) -> None:
        """End what was begun and not gone on with."""
        for connection in self._silent & self._connections:
            connection.abort()
        self._silent = {each for each in self._connections if not each.greeted}
        before = time.monotonic() - UNFINISHED
        for connection in self._connections:
            for stream in tuple(connection.streams.values()):
                call = stream.receiver
                if not stream.ended and isinstance(call, UnaryCall) and call.arrival < before:
                    call.fail(
                        grpc.StatusCode.DEADLINE_EXCEEDED,
                        f"the request was not complete after {UNFINISHED:g} s",
                    )
        self._send_on()
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(SWEEP_EVERY, self.sweep)

    def _send_on(self) -> None:
        """Let those who have been here for long connect anew: whoever balances by himself then
        finds the replicas that have come since. It costs no request."""
        now, loop = time.monotonic(), asyncio.get_running_loop()
        for connection in [each for each, until in self._ages.items() if until < now]:
            del self._ages[connection]
            connection.bid_farewell(_nobody_waits)
            loop.call_later(HEARD_WITHIN, connection.leave)

    def _connect(self, gone: Callable[[], None] | None = None) -> Connection[Call]:
        def over(connection: Connection[Call]) -> None:
            self._gone(connection)
            if gone is not None:
                gone()

        connection = Connection(read_call, partial(self._accept, Shapes()), over, turns=self._turns)
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

    def _falls_behind(self, behind: bool) -> None:
        """More comes than can be read: what waits should wait with the callers, who can give it up
        without costing this server anything."""
        self._behind = behind
        log.info("reading falls behind" if behind else "reading has caught up")
        streams = MAX_STREAMS
        if behind:
            streams = max(FEWEST_STREAMS, STREAMS_BEHIND // max(1, len(self._connections)))
        for connection in self._connections:
            connection.advertise(streams)

    def _gone(self, connection: Connection[Call]) -> None:
        self._connections.discard(connection)
        self._ages.pop(connection, None)
        if not self._connections:
            self._empty.set()

    def _accept(self, shapes: Shapes, stream: Stream, call: Call) -> Receiver:
        if not call.grpc:
            stream.finish(wire.NOT_GRPC)
            return NOBODY
        if call.fault is not None:
            stream.finish(wire.trailers_only(call.fault.code, str(call.fault)))
            return NOBODY
        method = self._methods.find(call.path)
        if method is None:
            stream.finish(
                wire.trailers_only(grpc.StatusCode.UNIMPLEMENTED, f"no method {call.path!r} here")
            )
            return NOBODY
        rights = EVERYTHING
        if method.gate is not None and method.gate(stream, call, rights):
            return NOBODY
        if method.stream is not None:
            return method.stream(stream, call, rights, shapes)
        if method.streams_in:
            return StreamCall(stream, call, rights, method)
        return UnaryCall(stream, call, rights, method, shapes)


def _nobody_waits() -> None:
    """Who is sent on in passing is not waited for."""


async def make_server(
    engine: Engine,
    *,
    shared_memory: bool,
    everyone: Everyone | None = None,
    feedback: Feedback | None = None,
    frontier: Frontier | None = None,
    connection_age: float = math.inf,
) -> RpcServer:
    """All services before `engine`, on no port yet. `shared_memory` says whether callers may
    register it; `everyone` tells the statistics of all, where other processes serve as well;
    `feedback` rules on reports, `frontier` is what WatchFrontier shows. `connection_age` as in
    RpcServer."""
    methods: Any = Methods()
    memory = SharedMemory(allowed=shared_memory)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
        InferenceServicer(engine, memory, everyone), methods
    )
    gearshift_pb2_grpc.add_GearshiftServicer_to_server(
        GearshiftServicer(engine, feedback, frontier), methods
    )
    inferences = Inferences(engine, memory)
    methods.add_direct(f"/{UNARY}", inferences.unary, inferences.turns_away)
    methods.add_stream(
        f"/{STREAM}",
        lambda stream, call, rights, shapes: InferStream(stream, call, rights, shapes, inferences),
    )
    checked = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checked, methods)
    services = ["", SERVICE, CONTROL, *engine.catalog.models]
    for service in (*services, LIVE):
        await checked.set(service, health_pb2.HealthCheckResponse.SERVING)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
        reflection.aio.ReflectionServicer(
            (SERVICE, CONTROL, health.SERVICE_NAME, reflection.SERVICE_NAME)
        ),
        methods,
    )
    server = RpcServer(methods, checked, services, connection_age)
    # Here and not where it listens: connections that are adopted need it as well.
    server.sweep()
    return server


async def serve(
    engine: Engine,
    host: str,
    port: int,
    *,
    shared_memory: bool = True,
    feedback: Feedback | None = None,
    frontier: Frontier | None = None,
    connection_age: float = math.inf,
) -> RpcServer:
    """Listen on `host:port` (0 takes a free port). CannotListen if it is taken."""
    server = await make_server(
        engine,
        shared_memory=shared_memory,
        feedback=feedback,
        frontier=frontier,
        connection_age=connection_age,
    )
    await server.listen(host, port)
    return server
