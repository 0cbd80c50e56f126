"""What spans say: OpenTelemetry's names where it has some, `gearshift.` before our own.

`rpc.*` and `error.type` after the semantic conventions for RPC and gRPC spans, whose stable names
these are; times in microseconds, as in the parameters of responses.
"""

from __future__ import annotations

import math
from typing import Any

from opentelemetry.trace import Status, StatusCode

from gearshift.core.request import Ticket

RPC = {"rpc.system.name": "grpc"}

ERRORS = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)
"""Statuses that are the server's fault (semantic conventions for gRPC): only these make a span
that of an error. What the caller did, and what was shed in time, does not."""

LONGEST = 1_024
"""Characters of a text that may come from a caller."""


def micros(seconds: float) -> int:
    return round(seconds * 1e6)


def asked(ticket: Ticket) -> dict[str, Any]:
    """What a request asks for."""
    told: dict[str, Any] = {
        "gearshift.model": ticket.model,
        "gearshift.service_class": ticket.service_class,
        "gearshift.rows": ticket.rows,
    }
    # Unlimited has no number on the wire; neither has no floor.
    if ticket.budget < math.inf:
        told["gearshift.budget_us"] = micros(ticket.budget)
    if math.isfinite(ticket.floor):
        told["gearshift.floor"] = ticket.floor
    if ticket.variant is not None:
        told["gearshift.pinned"] = ticket.variant
    return told


def slack(ticket: Ticket, at: float) -> dict[str, Any]:
    """What is left of the budget."""
    left = ticket.deadline - at
    return {"gearshift.slack_us": micros(left)} if left < math.inf else {}


def status(code: str, message: str) -> Status:
    """Of a server's span that ended with this gRPC status."""
    if code in ERRORS:
        return Status(StatusCode.ERROR, message[:LONGEST])
    return Status(StatusCode.UNSET)
