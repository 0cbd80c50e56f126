"""Explain for those who speak HTTP: asked of this very server over its own gRPC port, which
answers the same whether one process serves or several."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

from gearshift.v1 import gearshift_pb2 as pb
from gearshift.v1 import gearshift_pb2_grpc

WITHIN = 2.0
"""Seconds for the answer."""

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}

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

_HTTP = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class Explainer:
    """Asks the server at `listening`, once that is known. Blocks; from any thread."""

    def __init__(self) -> None:
        self._address = ""
        self.port = 0

    def listening(self, host: str, port: int) -> None:
        """The server takes requests there."""
        self.port = port
        host = _ANYWHERE.get(host, host)
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def __call__(self, query: Mapping[str, str]) -> tuple[int, bytes]:
        """The HTTP status and a JSON object: ExplainResponse, or `status` and `error`."""
        try:
            request = _request(query)
        except ValueError as error:
            return _refused(400, "INVALID_ARGUMENT", str(error))
        if not self._address:
            return _refused(503, "UNAVAILABLE", "the server is starting; try again shortly")
        # Here and now: it is asked by hand, and a channel that waits would cost threads.
        with grpc.insecure_channel(
            self._address, options=(("grpc.enable_http_proxy", 0),)
        ) as channel:
            try:
                answer = gearshift_pb2_grpc.GearshiftStub(channel).Explain(request, timeout=WITHIN)
            except grpc.RpcError as error:
                code, text = error.code(), error.details() or "no answer"
                return _refused(_HTTP.get(code, 502), code.name, text)
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
