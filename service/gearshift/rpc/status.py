"""From an error to what the caller sees: a status, a sentence, and perhaps when to retry."""

from __future__ import annotations

import math
import uuid
from typing import Any

import grpc
import structlog
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from gearshift.errors import (
    ExecutorFailed,
    ExecutorUnavailable,
    Overloaded,
    RequestError,
    ending_of,
)
from gearshift.rpc.wire import Metadata

log = structlog.get_logger(__name__)

PUSHBACK = "grpc-retry-pushback-ms"
"""What retries by service config wait for instead of their own backoff (gRPC proposal A6)."""


def expected(error: Exception, **concerned: object) -> RequestError:
    """The error as its caller may hear of it.

    What is not a RequestError is logged here with its cause, under the reference that the
    caller gets, and with what it concerned. ExecutorFailed was logged where it happened and
    brings its reference along.
    """
    if isinstance(error, RequestError):
        return error
    reference = uuid.uuid4().hex[:12]
    log.error("unexpected error", reference=reference, **concerned, exc_info=error)
    return ExecutorFailed(f"internal error, reference {reference}", reference)


def code_and_message(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The gRPC status and the text for the caller; never the text of an unexpected error."""
    known = expected(error)
    if isinstance(known, ExecutorFailed):
        return grpc.StatusCode.INTERNAL, f"internal error, reference {known.reference}"
    return grpc.StatusCode[ending_of(known).status], str(known)


def ending(error: Exception) -> tuple[grpc.StatusCode, str, Metadata]:
    """Status, text and trailing metadata. Overloaded, and ExecutorUnavailable where that is known,
    say twice when to retry: in google.rpc.RetryInfo for programs, in PUSHBACK for gRPC's own
    retries."""
    code, message = code_and_message(error)
    trailing: Metadata = ()
    wait = error.retry_after if isinstance(error, Overloaded | ExecutorUnavailable) else None
    if wait is not None:
        details = rpc_status.to_status(_retry_status(code, message, wait)).trailing_metadata
        # Rounded up: a millisecond too early is refused again.
        trailing = (*details, (PUSHBACK, str(math.ceil(wait * 1e3))))
    return code, message, trailing


async def abort(context: Any, error: Exception) -> None:
    """End the call with the error's status."""
    await context.abort(*ending(error))


def _retry_status(code: grpc.StatusCode, message: str, wait: float) -> Any:
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(round(wait * 1e9))
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(code=code.value[0], message=message, details=[detail])
