"""The gRPC server: inference, health and reflection on one port."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gearshift.engine import Engine
from gearshift.errors import ConfigurationInvalid
from gearshift.rpc.inference import InferenceServicer

INFERENCE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
LIVE = "live"
"""Health service that serves as long as the process runs: for liveness probes, which must
not kill a server for draining."""

MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes, both ways. grpc's own 4 MiB is too small for images in batches; without a limit one
caller could fill the memory."""


class RpcServer:
    """A listening server; `port` is the bound one."""

    def __init__(
        self, server: grpc.aio.Server, health_: Any, services: list[str], port: int
    ) -> None:
        self._server = server
        self._health = health_
        self._services = services
        self.port = port

    async def not_serving(self) -> None:
        """Tell health checks that this server takes nothing new; it stays live."""
        for service in self._services:
            await self._health.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, grace: float) -> None:
        """Close the port; calls still open get `grace` seconds."""
        await self.not_serving()
        await self._server.stop(grace)


async def serve(engine: Engine, host: str, port: int) -> RpcServer:
    """Listen on `host:port` (0 takes a free port). ConfigurationInvalid if it is taken."""
    server = grpc.aio.server(
        options=(
            # Two servers on one port would each see half of the load, and neither know.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.max_send_message_length", MAX_MESSAGE),
        )
    )
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(InferenceServicer(engine), server)
    checked = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checked, server)
    services = ["", INFERENCE, *engine.catalog.models]
    for service in (*services, LIVE):
        await checked.set(service, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection(
        (INFERENCE, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise ConfigurationInvalid(
            f"cannot listen on {address} for gRPC; stop what uses it or choose another with"
            f" --grpc-port"
        )
    await server.start()
    return RpcServer(server, checked, services, bound)
