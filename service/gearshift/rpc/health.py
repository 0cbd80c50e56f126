"""Health by service: that of a model that is served no more can be forgotten."""

from __future__ import annotations

from grpc_health.v1 import health, health_pb2

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health(health.aio.HealthServicer):  # type: ignore[misc]
    """The stock servicer, which keeps every name that it was ever told."""

    async def forget(self, service: str) -> None:
        """As if it had never been there: who watches hears SERVICE_UNKNOWN, who checks
        NOT_FOUND."""
        await self.set(service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        self._server_status.pop(service, None)
