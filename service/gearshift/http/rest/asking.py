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
