"""A call whose end is taken down: control actions."""

from __future__ import annotations

from typing import Any

import grpc

from gearshift.core.rights import Rights
from gearshift.http2 import Stream
from gearshift.rpc.calls import UnaryCall
from gearshift.rpc.gate import Caller, Gate
from gearshift.rpc.methods import Method
from gearshift.rpc.unpacking import Unpacker
from gearshift.rpc.wire import Call, Metadata

TARGETS = ("model_name", "name")
"""Fields of requests that say what an action is about."""


class AuditedCall(UnaryCall):
    """A unary call of the group `control`."""

    __slots__ = ("_caller", "_gate", "_target", "_told")

    def __init__(
        self,
        stream: Stream,
        call: Call,
        rights: Rights,
        method: Method,
        caller: Caller,
        gate: Gate,
        unpacker: Unpacker,
    ) -> None:
        super().__init__(stream, call, rights, method, caller.shapes, unpacker)
        self._caller = caller
        self._gate = gate
        self._target = ""
        self._told = False

    async def _let(self, handler: Any, request: Any) -> None:
        named = [str(getattr(request, field, "")) for field in TARGETS]
        # Of TraceSetting and LogSettings: which are set.
        named.append(" ".join(sorted(getattr(request, "settings", ()))))
        self._target = next(filter(None, named), "")
        await super()._let(handler, request)

    def reply(self, message: bytes) -> None:
        self._tell("OK")
        super().reply(message)

    def fail(self, code: grpc.StatusCode, text: str, metadata: Metadata = ()) -> None:
        self._tell(code.name)
        super().fail(code, text, metadata)

    def cancelled(self) -> None:
        # Once it runs, it may have been done all the same.
        if self._task is not None:
            self._tell("CANCELLED")
        super().cancelled()

    def _tell(self, result: str) -> None:
        if not self._told:
            self._told = True
            self._gate.acted(self.rights, self._caller, self.call, self._target, result)
