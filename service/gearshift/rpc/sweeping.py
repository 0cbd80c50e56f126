"""What was begun on a connection and does not get on is ended: by looking at all of them, now and
then, which costs the requests nothing."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Set
from typing import Any

import grpc

from gearshift.core.limits import Usage
from gearshift.http2 import Connection
from gearshift.http2.frames import ENHANCE_YOUR_CALM
from gearshift.rpc.calls import Responder

Connections = Set[Connection[Any]]


class Sweeper:
    """Looks for who has begun something and not gone on with it."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._silent: Connections = frozenset()
        self._awake_since = -math.inf

    def sweep(self, connections: Connections, *, slept: bool = False) -> None:
        """One look. A connection that has said nothing since the look before is closed, as is one
        with a frame that is not complete, or with answers that it does not read, for
        `stall_seconds`; a call whose message is not complete, or whose answer is not read, for as
        long is ended by itself. If this process `slept` since, nobody is late by his own fault."""
        now, patience = asyncio.get_running_loop().time(), self._usage.limits.stall_seconds
        if slept:
            self._awake_since, self._silent = now, frozenset()
        for connection in self._silent & connections:
            connection.abort()
        self._silent = {each for each in connections if not each.greeted}
        before = now - patience
        if before < self._awake_since:
            return
        for connection in tuple(connections):
            if connection.stalled(before):
                self._usage.reach("stall_seconds")
                connection.reset()
            else:
                self._look_at(connection, before, time.monotonic() - patience)

    def _look_at(self, connection: Connection[Any], before: float, begun_before: float) -> None:
        for stream in _streams(connection):
            call = stream.receiver
            if stream.waiting and stream.since < before:
                self._usage.reach("stall_seconds")
                connection.give_up(stream, ENHANCE_YOUR_CALM)
            elif isinstance(call, Responder) and call.incomplete_since() < begun_before:
                self._usage.reach("stall_seconds")
                call.end(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    f"the request was not complete after {self._usage.limits.stall_seconds:g} s"
                    f" (setting stall_seconds)",
                )


def _streams(connection: Connection[Any]) -> Iterable[Any]:
    """Those of now: to end one takes it away."""
    return tuple(connection.streams.values())
