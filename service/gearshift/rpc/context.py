"""What a servicer's method knows of its call: the part of grpc.aio.ServicerContext in use."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from gearshift.core.rights import Rights
from gearshift.rpc.wire import Metadata

if TYPE_CHECKING:
    from gearshift.rpc.calls import Responder


class Aborted(Exception):
    """`Context.abort` was called: the call ends with this status."""

    def __init__(self, code: grpc.StatusCode, text: str, metadata: Metadata) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.metadata = metadata


class Context:
    """`remaining` says how many seconds the caller still waits, infinite for ever."""

    def __init__(self, responder: Responder) -> None:
        self._responder = responder

    @property
    def rights(self) -> Rights:
        """What the caller may do."""
        return self._responder.rights

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()
    ) -> NoReturn:
        raise Aborted(code, details, trailing_metadata)

    async def write(self, message: Any) -> None:
        """Send one message of a streamed answer."""
        await self._responder.write(message)

    def time_remaining(self) -> float | None:
        remaining = self._responder.remaining()
        return None if remaining == math.inf else remaining

    def invocation_metadata(self) -> Metadata:
        return self._responder.call.metadata
