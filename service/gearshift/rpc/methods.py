"""The methods that are served, as the generated code registers them.

Takes what `add_..._to_server` functions give to a grpcio server, so that generated and stock
servicers (health, reflection) plug in unchanged; and methods of our own that answer without
a task for each call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from gearshift.core.rights import Rights
from gearshift.http2 import Receiver, Stream
from gearshift.rpc.shapes import Shapes
from gearshift.rpc.wire import Call

if TYPE_CHECKING:
    from gearshift.rpc.calls import UnaryCall

Direct = Callable[["UnaryCall", bytes], Callable[[], None] | None]
"""Begins to answer a call, given its message; returns what to do if the caller leaves."""

StreamMaker = Callable[[Stream, Call, Rights, Shapes], Receiver]
"""Makes who takes all that comes in on one call; the shapes are those of its connection."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method: `handler` of generated code, `direct`, or `stream`."""

    handler: Any = None
    direct: Direct | None = None
    stream: StreamMaker | None = None

    @property
    def streams_in(self) -> bool:
        return self.direct is None and bool(self.handler.request_streaming)


class _Path:
    """What generated code asks for a handler with (grpc.HandlerCallDetails)."""

    invocation_metadata = ()

    def __init__(self, method: str) -> None:
        self.method = method


class Methods:
    """By path; stands in for a grpcio server where services are added."""

    def __init__(self) -> None:
        self._known: dict[str, Method] = {}
        self._generic: list[Any] = []

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        self._generic += handlers

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        for name, handler in handlers.items():
            self._known[f"/{service}/{name}"] = Method(handler)

    def add_direct(self, path: str, direct: Direct) -> None:
        self._known[path] = Method(direct=direct)

    def add_stream(self, path: str, stream: StreamMaker) -> None:
        self._known[path] = Method(stream=stream)

    def find(self, path: str) -> Method | None:
        known = self._known.get(path)
        if known is not None:
            return known
        details: Any = _Path(path)
        for generic in self._generic:
            handler: grpc.RpcMethodHandler[Any, Any] | None = generic.service(details)
            if handler is not None:
                self._known[path] = Method(handler)
                return self._known[path]
        return None
