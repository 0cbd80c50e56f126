"""From an error to what the caller sees: a status, a sentence, and perhaps when to retry."""

from __future__ import annotations

import math
import uuid
from functools import lru_cache
from typing import Any

import grpc
import structlog
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from gearshift.errors import ExecutorFailed, Overloaded, RequestError, ending_of
from gearshift.rpc.wire import Metadata

log = structlog.get_logger(__name__)

DETAILS = "grpc-status-details-bin"
RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"

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
    """Status, text and trailing metadata. Overloaded says twice when to retry: in
    google.rpc.RetryInfo for programs, in PUSHBACK for gRPC's own retries."""
    code, message = code_and_message(error)
    trailing: Metadata = ()
    if isinstance(error, Overloaded):
        # Rounded up: a millisecond too early is refused again.
        wait = math.ceil(error.retry_after * 1e3)
        trailing = ((DETAILS, _details(code, message, wait)), (PUSHBACK, str(wait)))
    return code, message, trailing


async def abort(context: Any, error: Exception) -> None:
    """End the call with the error's status."""
    await context.abort(*ending(error))


def _details(code: grpc.StatusCode, message: str, wait: int) -> bytes:
    """A google.rpc.Status with RetryInfo, as grpc_status writes it; `wait` in milliseconds. In an
    overload this is most of what the server says, and must leave it time to serve."""
    status = status_pb2.Status(code=code.value[0], message=message)
    detail = status.details.add()
    detail.type_url = RETRY_INFO
    detail.value = _retry_info(wait)
    return bytes(status.SerializeToString())


@lru_cache(maxsize=4_096)
def _retry_info(wait: int) -> bytes:
    delay = duration_pb2.Duration()
    delay.FromMilliseconds(wait)
    return bytes(error_details_pb2.RetryInfo(retry_delay=delay).SerializeToString())
