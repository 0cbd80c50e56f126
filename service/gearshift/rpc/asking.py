"""Explain for those who speak HTTP: asked of this very server from inside, which answers the same
whether one process serves or several."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

from gearshift.errors import http_status_of
from gearshift.rpc.inside import call
from gearshift.v1 import gearshift_pb2 as pb

WITHIN = 2.0
"""Seconds for the answer."""

EXPLAIN = "/gearshift.v1.Gearshift/Explain"

_NUMBER: Callable[[str], Any] = float

_FIELDS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "model": ("model", str),
    "budget_ms": ("latency_budget_ms", _NUMBER),
    "min_accuracy": ("min_accuracy", _NUMBER),
    "service_class": ("service_class", str),
    "variant": ("variant", str),
    "rows": ("rows", int),
}
"""By the name in the query: the field, and what its text must be."""

Dial = Callable[[], socket.socket]
"""Gives a connection to this very server. OSError if there is none to be had."""


class Explainer:
    """Asks the server, once it listens."""

    def __init__(self) -> None:
        self._dial: Dial | None = None
        self.port = 0

    def listening(self, port: int, dial: Dial) -> None:
        """The server takes requests at `port`, and from inside by `dial`."""
        self.port = port
        self._dial = dial

    async def __call__(self, query: Mapping[str, str]) -> tuple[int, bytes]:
        """The HTTP status and a JSON object: ExplainResponse, or `status` and `error`."""
        try:
            request = _request(query)
        except ValueError as error:
            return _refused(400, "INVALID_ARGUMENT", str(error))
        if self._dial is None:
            return _refused(503, "UNAVAILABLE", "the server is starting; try again shortly")
        try:
            connection = self._dial()
        except OSError as error:
            return _refused(503, "UNAVAILABLE", f"the server takes no questions: {error}")
        ended = await call(connection, EXPLAIN, request.SerializeToString(), WITHIN)
        if ended.code is not grpc.StatusCode.OK:
            text = ended.text or "no answer"
            return _refused(http_status_of(ended.code.name), ended.code.name, text)
        answer = pb.ExplainResponse.FromString(ended.message)
        told = MessageToDict(
            answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return 200, json.dumps(told).encode()


def _request(query: Mapping[str, str]) -> Any:
    """ValueError with a sentence for whatever is not understood; an empty text is as none."""
    given: dict[str, Any] = {}
    for name, text in query.items():
        if name not in _FIELDS:
            raise ValueError(f"unknown parameter {name!r}; there are {', '.join(_FIELDS)}")
        field, convert = _FIELDS[name]
        if text.strip():
            try:
                given[field] = convert(text.strip())
            except ValueError:
                kind = "a whole number" if convert is int else "a number"
                raise ValueError(f"{name} must be {kind}, got {text!r}") from None
    if "model" not in given:
        raise ValueError("which model? Give its name as the parameter 'model'")
    if not -(2**63) <= given.get("rows", 0) < 2**63:
        raise ValueError(f"rows is out of range: {given['rows']}")
    return pb.ExplainRequest(**given)


def _refused(http: int, status: str, message: str) -> tuple[int, bytes]:
    return http, json.dumps({"status": status, "error": message}).encode()
