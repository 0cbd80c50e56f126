"""The gRPC server: inference, health and reflection on one port."""

from __future__ import annotations

import asyncio
import math
import random
import socket
import time
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from tritonclient.grpc import service_pb2_grpc

from gearshift.core.catalog import Catalog, Model
from gearshift.core.rights import EVERYTHING
from gearshift.engine import Engine
from gearshift.errors import CannotListen
from gearshift.http2 import NOBODY, Connection, Receiver, Stream
from gearshift.ports import Feedback, Repository
from gearshift.rpc import wire
from gearshift.rpc.calls import StreamCall, UnaryCall
from gearshift.rpc.control import GearshiftServicer
from gearshift.rpc.frontier import Frontier
from gearshift.rpc.health import NOT_SERVING, SERVING, Health
from gearshift.rpc.infer import SERVICE, STREAM, UNARY, Inferences
from gearshift.rpc.infer_stream import InferStream
from gearshift.rpc.inference import Everyone, InferenceServicer
from gearshift.rpc.methods import Methods
from gearshift.rpc.shapes import Shapes
from gearshift.rpc.shared_memory import SharedMemory
from gearshift.rpc.wire import Call, read_call
from gearshift.v1 import gearshift_pb2, gearshift_pb2_grpc

CONTROL = gearshift_pb2.DESCRIPTOR.services_by_name["Gearshift"].full_name
OURS = ("", SERVICE, CONTROL)
"""The health services beside those of the models."""

LIVE = "live"
"""Health service that serves as long as the process runs: for liveness probes, which must
not kill a server for draining."""

SWEEP_EVERY = 5.0
UNFINISHED = 60.0
"""Seconds. So often it is looked who has begun something and not gone on: a connection that has
said nothing in that time is closed, a request that is not complete after UNFINISHED is ended."""

HEARD_WITHIN = 1.0
"""Seconds that callers get to hear that they should go elsewhere: a round trip, and a busy loop."""

BACKLOG = 4_096
"""Connections that may wait to be taken; a fleet may come back all at once."""


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
    ) -> None:
        self._methods = methods
        self._connection_age = connection_age
        self._ages: dict[Connection[Call], float] = {}
        """When each has lived long enough (`time.monotonic`)."""
        self._health = health_
        self._models = set(models)
        self._follows = follows
        self._telling: set[asyncio.Task[None]] = set()
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

        connection = Connection(read_call, partial(self._accept, Shapes()), over)
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
    repository: Repository | None = None,
    connection_age: float = math.inf,
) -> RpcServer:
    """All services before `engine`, on no port yet. `shared_memory` says whether callers may
    register it; `everyone` tells the statistics of all, where other processes serve as well;
    `feedback` rules on reports, `frontier` is what WatchFrontier shows, `repository` loads and
    unloads models. `connection_age` as in RpcServer."""
    methods: Any = Methods()
    memory = SharedMemory(allowed=shared_memory)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
        InferenceServicer(engine, memory, everyone, repository), methods
    )
    gearshift_pb2_grpc.add_GearshiftServicer_to_server(
        GearshiftServicer(engine, feedback, frontier), methods
    )
    inferences = Inferences(engine, memory)
    methods.add_direct(f"/{UNARY}", inferences.unary)
    methods.add_stream(
        f"/{STREAM}",
        lambda stream, call, rights, shapes: InferStream(stream, call, rights, shapes, inferences),
    )
    checked = Health()
    health_pb2_grpc.add_HealthServicer_to_server(checked, methods)
    models = list(engine.catalog.models)
    for service in (*OURS, *models, LIVE):
        await checked.set(service, SERVING)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
        reflection.aio.ReflectionServicer(
            (SERVICE, CONTROL, health.SERVICE_NAME, reflection.SERVICE_NAME)
        ),
        methods,
    )
    server = RpcServer(methods, checked, models, inferences.follow, connection_age)
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
    repository: Repository | None = None,
    connection_age: float = math.inf,
) -> RpcServer:
    """Listen on `host:port` (0 takes a free port). CannotListen if it is taken."""
    server = await make_server(
        engine,
        shared_memory=shared_memory,
        feedback=feedback,
        frontier=frontier,
        repository=repository,
        connection_age=connection_age,
    )
    await server.listen(host, port)
    return server
