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

from gearshift.core.rights import Group, Rights
from gearshift.http2 import Receiver, Stream
from gearshift.rpc.groups import group_of
from gearshift.rpc.shapes import Shapes
from gearshift.rpc.unpacking import Unpacker
from gearshift.rpc.wire import Call

if TYPE_CHECKING:
    from gearshift.rpc.calls import UnaryCall

LARGEST_QUESTION = 4 * 1024 * 1024
"""Bytes of a message that is no inference request: what stock gRPC servers take."""

Direct = Callable[["UnaryCall", bytes], Callable[[], None] | None]
"""Begins to answer a call, given its message; returns what to do if the caller leaves."""

Gate = Callable[[Stream, Call, Rights], bool]
"""Asked before anything of a call but its headers is read; True: it has been refused."""

StreamMaker = Callable[[Stream, Call, Rights, Shapes, Unpacker], Receiver]
"""Makes who takes all that comes in on one call; the shapes are those of its connection."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method, of a `group` of rights: `handler` of generated code, `direct`, or `stream`;
    `gate` is before it."""

    group: Group
    handler: Any = None
    direct: Direct | None = None
    stream: StreamMaker | None = None
    gate: Gate | None = None
    most: int = LARGEST_QUESTION
    """Bytes of one message."""

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
            path = f"/{service}/{name}"
            self._known[path] = Method(group_of(path), handler)

    def add_direct(self, path: str, direct: Direct, most: int, gate: Gate | None = None) -> None:
        """`most`: bytes of a message."""
        self._known[path] = Method(group_of(path), direct=direct, most=most, gate=gate)

    def add_stream(self, path: str, stream: StreamMaker) -> None:
        self._known[path] = Method(group_of(path), stream=stream)

    def find(self, path: str) -> Method | None:
        known = self._known.get(path)
        if known is not None:
            return known
        details: Any = _Path(path)
        for generic in self._generic:
            handler: grpc.RpcMethodHandler[Any, Any] | None = generic.service(details)
            if handler is not None:
                self._known[path] = Method(group_of(path), handler)
                return self._known[path]
        return None
