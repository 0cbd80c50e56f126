"""All cases, in the order in which they are asked."""

from __future__ import annotations

from conformance import cases, control_cases, rest_cases, rest_control_cases
from conformance.case import Case
from conformance.rest import RestCase


def over_grpc() -> list[Case]:
    return [*cases.inference_cases(), *control_cases.control_cases()]


def over_http() -> list[RestCase]:
    return [*rest_cases.inference_cases(), *rest_control_cases.control_cases()]


def names() -> list[str]:
    """Of all of them; each has one of its own."""
    found = [each.name for each in (*over_grpc(), *over_http())]
    assert len(set(found)) == len(found)
    return found
