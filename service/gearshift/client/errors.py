"""What may become of a request instead of an answer, one class for each thing to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc

PUSHBACK = "grpc-retry-pushback-ms"
"""How many milliseconds a server wants nobody to ask again."""


class ClientError(Exception):
    """`status` is that of gRPC."""

    def __init__(self, text: str, status: grpc.StatusCode) -> None:
        super().__init__(text)
        self.status = status


class InvalidRequest(ClientError):
    """The request is wrong; the text says what would be right. Mend the caller."""


class NotFound(ClientError):
    """There is no such model, variant or method."""


class Infeasible(ClientError):
    """No variant is as accurate as the floor, or as fast as the budget, even on an idle server; the
    text names the nearest that would do. Change one of the two."""


class Overloaded(ClientError):
    """This server has no way to be in time now, or the caller is over its quota or a limit. Ask
    again after `retry_after` seconds, where that is known, or ask for less."""

    def __init__(
        self, text: str, status: grpc.StatusCode, retry_after: float | None = None
    ) -> None:
        super().__init__(text, status)
        self.retry_after = retry_after


class DeadlineExceeded(ClientError):
    """The time is up."""


class Unavailable(ClientError):
    """The server starts, goes, or cannot be reached, or every variant that would do keeps failing.
    Ask again, best elsewhere; after `retry_after` seconds, where that is known."""

    def __init__(
        self, text: str, status: grpc.StatusCode, retry_after: float | None = None
    ) -> None:
        super().__init__(text, status)
        self.retry_after = retry_after


class Unauthenticated(ClientError):
    """The server knows its callers, and this one has not proved to be one of them."""


class Forbidden(ClientError):
    """The caller is known, and may not make this call."""


class ServerFailed(ClientError):
    """The server broke; the text is a reference into its log."""


_KINDS: dict[grpc.StatusCode, type[ClientError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.UNIMPLEMENTED: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: Infeasible,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Forbidden,
}


def error_of(failed: Any) -> ClientError:
    """For a call that ended with this error of gRPC's."""
    status, text = failed.code(), failed.details() or ""
    if status in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE):
        kind = Overloaded if status is grpc.StatusCode.RESOURCE_EXHAUSTED else Unavailable
        return kind(text, status, _retry_after(failed.trailing_metadata() or ()))
    return _KINDS.get(status, ServerFailed)(text, status)


def _retry_after(trailing: Iterable[tuple[str, Any]]) -> float | None:
    for name, value in trailing:
        if name == PUSHBACK and str(value).isdigit():
            return int(value) / 1e3
    return None
