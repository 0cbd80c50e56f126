"""All services on one port: inference, our own, health and reflection."""

from __future__ import annotations

import math
import ssl
from typing import Any

from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from tritonclient.grpc import service_pb2_grpc

from gearshift.engine import Engine
from gearshift.ports import Access, Audit, Feedback, Observing, Repository
from gearshift.rpc.control import GearshiftServicer
from gearshift.rpc.frontier import Frontier
from gearshift.rpc.gate import Gate, Names, no_names
from gearshift.rpc.health import SERVING, Health
from gearshift.rpc.infer import SERVICE, STREAM, UNARY, Inferences
from gearshift.rpc.infer_stream import InferStream
from gearshift.rpc.inference import Everyone, InferenceServicer
from gearshift.rpc.methods import Methods
from gearshift.rpc.preparing import THREADS, Preparer
from gearshift.rpc.server import CONTROL, LIVE, OURS, RpcServer
from gearshift.rpc.shared_memory import MOST_REGIONS, SharedMemory
from gearshift.v1 import gearshift_pb2_grpc


async def make_server(
    engine: Engine,
    *,
    shared_memory: bool,
    everyone: Everyone | None = None,
    feedback: Feedback | None = None,
    frontier: Frontier | None = None,
    repository: Repository | None = None,
    observing: Observing | None = None,
    connection_age: float = math.inf,
    access: Access | None = None,
    audit: Audit | None = None,
    names: Names = no_names,
    max_regions: int = MOST_REGIONS,
    preparing_threads: int = THREADS,
) -> RpcServer:
    """All services before `engine`, on no port yet. `shared_memory` says whether callers may
    register it; `everyone` tells the statistics of all, where other processes serve as well;
    `feedback` rules on reports, `frontier` is what WatchFrontier shows, `repository` loads and
    unloads models, `observing` sets what is logged and traced. `connection_age` and `names` as in
    RpcServer. With `access` it is asked who calls; `audit` takes down what was done. Models' steps
    have so many `preparing_threads`."""
    methods: Any = Methods()
    memory = SharedMemory(allowed=shared_memory, most=max_regions)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
        InferenceServicer(engine, memory, everyone, repository, observing), methods
    )
    gearshift_pb2_grpc.add_GearshiftServicer_to_server(
        GearshiftServicer(engine, feedback, frontier), methods
    )
    preparer = Preparer(engine.clock, engine.usage, preparing_threads)
    inferences = Inferences(engine, memory, preparer)
    most = engine.usage.limits.max_message_bytes
    methods.add_direct(f"/{UNARY}", inferences.unary, most, inferences.turns_away)
    methods.add_stream(
        f"/{STREAM}",
        lambda stream, call, rights, shapes, unpacker: InferStream(
            stream, call, rights, shapes, unpacker, inferences
        ),
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
    server = RpcServer(
        methods,
        checked,
        models,
        inferences.follow,
        connection_age,
        usage=engine.usage,
        count=engine.refused,
        gate=Gate(access, audit),
        names=names,
        ends=preparer.close,
    )
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
    observing: Observing | None = None,
    connection_age: float = math.inf,
    tls: ssl.SSLContext | None = None,
    access: Access | None = None,
    audit: Audit | None = None,
    names: Names = no_names,
    max_regions: int = MOST_REGIONS,
    preparing_threads: int = THREADS,
) -> RpcServer:
    """Listen on `host:port` (0 takes a free port). CannotListen if it is taken."""
    server = await make_server(
        engine,
        shared_memory=shared_memory,
        feedback=feedback,
        frontier=frontier,
        repository=repository,
        observing=observing,
        connection_age=connection_age,
        access=access,
        audit=audit,
        names=names,
        max_regions=max_regions,
        preparing_threads=preparing_threads,
    )
    await server.listen(host, port, tls)
    return server
