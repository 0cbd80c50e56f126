"""One tree of errors, and one table that maps each to the gRPC status its caller sees.

Every message says what was wrong, where, and what would be right. Anything that is not
in this tree is a bug or a failing backend: the caller then sees INTERNAL with a reference,
and the log has the cause.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a request ended; the values of the `outcome` label."""

    SERVED = "served"
    LATE = "late"
    SHED = "shed"
    INFEASIBLE = "infeasible"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    INVALID = "invalid"
    FAILED = "failed"


class GearshiftError(Exception):
    """The root: every error that gearshift itself raises on purpose."""


class RequestError(GearshiftError):
    """A request that is not answered with an inference; each kind has its status below."""


class InvalidInput(RequestError):
    """The request itself is wrong: a tensor, a parameter, a class, a budget."""


class NotServed(RequestError):
    """The protocol has it, and this server does not; the message says what it has instead."""


class ModelNotFound(RequestError):
    """No model of that name is in the catalog."""


class VariantNotFound(RequestError):
    """The model has no variant of that name or version."""


class RegionNotFound(RequestError):
    """No shared memory region of that name is registered."""


class RegionExists(RequestError):
    """A shared memory region of that name is registered already."""


class RegionUnusable(RequestError):
    """The key of a shared memory region names nothing that this server can open."""


class TooManyRegions(RequestError):
    """As many shared memory regions are registered as the server keeps."""


class FloorUnreachable(RequestError):
    """No variant of the model is as accurate as the request demands."""


class BudgetInfeasible(RequestError):
    """No variant that the request accepts is fast enough, even on an idle server."""


class NotResident(RequestError):
    """A variant could answer, but the memory of its device holds others now."""


class Overloaded(RequestError):
    """The queue leaves no way to be in time. `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QuotaExceeded(Overloaded):
    """Over what this client, or all of a service class, may send."""


class TooMany(Overloaded):
    """A limit on requests, streams or bytes is reached; the message names the setting."""


class DeadlineExpired(RequestError):
    """Admitted, but its latest start (or its deadline) passed before an answer was there."""


class NotReady(RequestError):
    """The server is starting or draining."""


class ExecutorUnavailable(RequestError):
    """The backend that would run the variant is down. `retry_after` is in seconds, None where
    nobody can say."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ExecutorFailed(RequestError):
    """The backend raised while running a batch; the cause is logged under `reference`."""

    def __init__(self, message: str, reference: str = "") -> None:
        super().__init__(message)
        self.reference = reference


class WorkerLost(GearshiftError):
    """A worker is gone with what it ran: its process has ended, or it is given up. Its place must
    be made anew (`ports.Executor.replace`). `reason` is `hung` or `crashed`; `running` is False
    where it was gone before the run began, which then says nothing of the variant."""

    def __init__(self, reason: str, message: str, *, running: bool = True) -> None:
        super().__init__(message)
        self.reason = reason
        self.running = running


class FeedbackOff(RequestError):
    """The setting `feedback` is false here."""


class FeedbackUnavailable(RequestError):
    """What was reported cannot be kept now: the feedback database fails, or is too busy."""


class LoadFailed(RequestError):
    """A generation that does not load; the message has every reason. Nothing has changed."""


class Cancelled(RequestError):
    """The caller left before the answer was there."""


class Unauthenticated(RequestError):
    """The caller did not prove who it is."""


class Forbidden(RequestError):
    """The caller may not do this."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What an error becomes: the name of its gRPC status, and its `outcome` label."""

    status: str
    outcome: Outcome


ENDINGS: Mapping[type[RequestError], Ending] = {
    InvalidInput: Ending("INVALID_ARGUMENT", Outcome.INVALID),
    NotServed: Ending("UNIMPLEMENTED", Outcome.INVALID),
    ModelNotFound: Ending("NOT_FOUND", Outcome.INVALID),
    VariantNotFound: Ending("NOT_FOUND", Outcome.INVALID),
    RegionNotFound: Ending("NOT_FOUND", Outcome.INVALID),
    RegionExists: Ending("ALREADY_EXISTS", Outcome.INVALID),
    # Triton's status for it, which its clients know.
    RegionUnusable: Ending("INTERNAL", Outcome.INVALID),
    TooManyRegions: Ending("RESOURCE_EXHAUSTED", Outcome.SHED),
    FloorUnreachable: Ending("FAILED_PRECONDITION", Outcome.INFEASIBLE),
    BudgetInfeasible: Ending("FAILED_PRECONDITION", Outcome.INFEASIBLE),
    NotResident: Ending("FAILED_PRECONDITION", Outcome.INFEASIBLE),
    Overloaded: Ending("RESOURCE_EXHAUSTED", Outcome.SHED),
    QuotaExceeded: Ending("RESOURCE_EXHAUSTED", Outcome.SHED),
    TooMany: Ending("RESOURCE_EXHAUSTED", Outcome.SHED),
    DeadlineExpired: Ending("DEADLINE_EXCEEDED", Outcome.EXPIRED),
    NotReady: Ending("UNAVAILABLE", Outcome.SHED),
    ExecutorUnavailable: Ending("UNAVAILABLE", Outcome.FAILED),
    ExecutorFailed: Ending("INTERNAL", Outcome.FAILED),
    FeedbackOff: Ending("FAILED_PRECONDITION", Outcome.INVALID),
    FeedbackUnavailable: Ending("UNAVAILABLE", Outcome.FAILED),
    LoadFailed: Ending("FAILED_PRECONDITION", Outcome.FAILED),
    Cancelled: Ending("CANCELLED", Outcome.CANCELLED),
    Unauthenticated: Ending("UNAUTHENTICATED", Outcome.INVALID),
    Forbidden: Ending("PERMISSION_DENIED", Outcome.INVALID),
}

UNEXPECTED = Ending("INTERNAL", Outcome.FAILED)


def ending_of(error: BaseException) -> Ending:
    """What `error` becomes; anything outside the tree is INTERNAL and counted as failed."""
    for kind in type(error).__mro__:
        ending = ENDINGS.get(kind)
        if ending is not None:
            return ending
    return UNEXPECTED


_HTTP_STATUSES: Mapping[str, int] = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


def http_status_of(status: str) -> int:
    """What callers over HTTP see for a gRPC status, as gRPC gateways have it
    (google/rpc/code.proto): 500 for what is the server's fault."""
    return _HTTP_STATUSES.get(status, 500)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake found while loading: the file, the key inside it (or ""), what is wrong."""

    file: str
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.key}" if self.key else self.file
        return f"{where}: {self.message}"


class RepositoryInvalid(GearshiftError):
    """The repository does not load; carries every mistake found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ProcessFailed(GearshiftError):
    """One of several serving processes ended before it was ready."""


class ConfigurationInvalid(GearshiftError):
    """A setting, an option, a port or a file given on the command line is wrong."""


class CannotListen(ConfigurationInvalid):
    """A port cannot be had. `protocol` is what should be spoken on it: gRPC or HTTP."""

    def __init__(self, host: str, port: int, protocol: str, error: OSError) -> None:
        option = f"--{protocol.lower()}-port"
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            reason = f"{host!r} is not an address of this machine; give one with --host"
        elif error.errno == errno.EADDRINUSE:
            reason = f"another program uses it; stop that or choose another port with {option}"
        elif error.errno == errno.EACCES:
            reason = f"ports below 1024 need privileges; choose a higher one with {option}"
        else:
            reason = f"{error.strerror or error}; choose another port with {option}"
        super().__init__(f"cannot listen on {host}:{port} for {protocol}: {reason}")
