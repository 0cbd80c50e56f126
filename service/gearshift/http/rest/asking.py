"""What is asked of the gRPC side, and what it tells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import grpc


@dataclass(frozen=True, slots=True)
class Asked:
    """One unary call: its path and serialized message; and for whom (`gearshift.rpc.inside`)."""

    path: str
    message: bytes = field(repr=False)
    peer: str = ""
    names: Sequence[str] = ()
    authorization: str = field(default="", repr=False)
    metadata: Sequence[tuple[bytes, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """How it ended. `retry_after` in seconds, None where nothing is said about that."""

    code: grpc.StatusCode
    text: str
    message: bytes = field(repr=False)
    retry_after: float | None = None


Ask = Callable[[Asked], Awaitable[Told]]
"""To cancel it is to leave."""

HTTP = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""As gRPC gateways have it (google/rpc/code.proto); what is not here is 500."""


class Mistake(Exception):
    """What came in cannot be made a call of: with the HTTP status that it is answered with."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


def headers_of(told: Told) -> Mapping[str, str]:
    """When to come back, in whole seconds as HTTP has it."""
    if told.retry_after is None:
        return {}
    return {"Retry-After": str(max(1, round(told.retry_after)))}
