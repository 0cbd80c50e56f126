"""Calls as they begin: each goes to its method, or ends before anything of it is read."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
from grpc_health.v1 import health

from gearshift.core.limits import Usage
from gearshift.core.rights import Group
from gearshift.errors import RequestError
from gearshift.http2 import NOBODY, Receiver, Stream
from gearshift.rpc import wire
from gearshift.rpc.audited import AuditedCall
from gearshift.rpc.calls import StreamCall, UnaryCall
from gearshift.rpc.gate import Caller, Gate
from gearshift.rpc.infer import UNARY
from gearshift.rpc.methods import Methods
from gearshift.rpc.status import ending
from gearshift.rpc.unpacking import Unpacker
from gearshift.rpc.wire import Call

CHECK = f"/{health.SERVICE_NAME}/Check"
"""What probes ask must be answered however many requests there are: a server that is killed for
being busy serves nobody."""

ASIDE = 1_024
"""Calls of CHECK that there may be beyond `max_requests`."""


class Acceptor:
    """Takes the calls of all connections: by what there is room for, by method, by rights."""

    def __init__(
        self,
        methods: Methods,
        gate: Gate,
        usage: Usage,
        count: Callable[[RequestError, float], None],
    ) -> None:
        """`usage` and `count` as in RpcServer."""
        self._methods = methods
        self._gate = gate
        self._usage = usage
        self._count = count
        self._unpacker = Unpacker()

    def close(self) -> None:
        """No call comes any more."""
        self._unpacker.close()

    def accept(self, caller: Caller, stream: Stream, call: Call) -> Receiver:
        """Who takes what comes in for `call`; NOBODY if it is over already."""
        if not call.grpc:
            stream.finish(wire.NOT_GRPC)
            return NOBODY
        if call.fault is not None:
            return _refused(stream, call.fault.code, str(call.fault))
        usage = self._usage
        most, connection = usage.limits.max_requests, stream.connection
        if (
            usage.requests > most
            and len(connection.streams) + connection.requests > usage.share(most)
            and not (call.path == CHECK and usage.requests <= most + ASIDE)
        ):
            error = usage.too_many("max_requests", "requests under way")
            if call.path == f"/{UNARY}":
                self._count(error, time.monotonic())
            connection.broke()  # who goes on and on asking is sent away
            return _refused(stream, *ending(error))
        method = self._methods.find(call.path)
        if method is None:
            return _refused(stream, grpc.StatusCode.UNIMPLEMENTED, f"no method {call.path!r} here")
        try:
            rights = self._gate.rights(caller, call, method.group)
        except RequestError as error:
            return _refused(stream, *ending(error))
        if method.gate is not None and method.gate(stream, call, rights):
            return NOBODY
        if method.stream is not None:
            return method.stream(stream, call, rights, caller.shapes, self._unpacker)
        if method.streams_in:
            return StreamCall(stream, call, rights, method, self._unpacker)
        if method.group is Group.CONTROL:
            return AuditedCall(stream, call, rights, method, caller, self._gate, self._unpacker)
        return UnaryCall(stream, call, rights, method, caller.shapes, self._unpacker)


def _refused(
    stream: Stream, code: grpc.StatusCode, text: str, metadata: wire.Metadata = ()
) -> Receiver:
    """The call ends before anything of it is read."""
    stream.finish(wire.trailers_only(code, text, metadata))
    return NOBODY
