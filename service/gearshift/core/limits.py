"""What callers can make a server keep, at most; and what they make it keep now.

One `Usage` for all connections of a process. Whoever keeps something for a caller counts it here,
and asks here before: the sum of all limits is the bound of docs/limits.md.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from gearshift.errors import TooMany

KIB = 1024
MIB = 1024 * KIB

RETRY_AFTER = 1.0
"""Seconds until what is full now may have room again."""

REASONS = ("max_connections", "max_connections_per_peer")
"""Why a connection is closed before a byte of it is read."""


MAX_QUEUE = 8_192
"""By default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Each named as the setting that it is; bytes, numbers and seconds."""

    max_connections: int = 16_384
    max_connections_per_peer: int = 12_288
    max_streams: int = 1_024
    """Calls of one connection at a time."""
    max_requests: int = 32_768
    """Calls and requests of streams under way, in all."""
    max_requests_per_connection: int = 8_192
    max_queue: int = MAX_QUEUE
    """Requests that wait, by model."""
    max_queue_bytes: int = 512 * MIB
    """Of the inputs of requests that wait or run, in all."""
    max_held_bytes: int = 512 * MIB
    """Of requests that are not complete, in all; one connection may have half of them."""
    max_unread_bytes: int = 256 * MIB
    """Of answers that their callers do not read, in all; one connection may have half of them."""
    max_message_bytes: int = 64 * MIB
    max_metadata_bytes: int = 64 * KIB
    max_cancels_per_second: int = 1_024
    """Of one connection, beyond as many as the half of the calls that it begins."""
    max_idle_frames_per_second: int = 10_000
    """Of one connection: frames that cost work and say nothing."""
    stall_seconds: float = 60.0
    """What was begun and does not get on for so long is ended."""

    def share(self, processes: int) -> Limits:
        """Those of one of several processes, which divide among them what all callers together may
        make the server keep."""
        if processes == 1:
            return self
        shares = {
            name: max(LEAST.get(name, 1), -(-getattr(self, name) // processes)) for name in IN_ALL
        }
        # One message has to have room.
        shares["max_held_bytes"] = max(shares["max_held_bytes"], 2 * self.max_message_bytes)
        return replace(self, **shares)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Of the HTTP port: connections at a time, bytes of a request's line and headers, and seconds
    from the first byte of a request until its answer has been read."""

    connections: int = 64
    head_bytes: int = 16 * KIB
    seconds: float = 30.0


IN_ALL = (
    "max_connections",
    "max_connections_per_peer",
    "max_requests",
    "max_queue",
    "max_queue_bytes",
    "max_held_bytes",
    "max_unread_bytes",
)
"""Limits of the server, not of a connection."""

LEAST = {"max_queue_bytes": MIB, "max_held_bytes": 2 * MIB, "max_unread_bytes": 2 * MIB}
"""What one of many processes gets in any case."""

COUNTED = (
    "max_streams",
    "max_requests",
    "max_requests_per_connection",
    "max_queue",
    "max_queue_bytes",
    "max_held_bytes",
    "max_unread_bytes",
    "max_message_bytes",
    "max_metadata_bytes",
    "max_cancels_per_second",
    "max_idle_frames_per_second",
    "stall_seconds",
)
"""Those that are counted when they are reached; connections are counted by why they are refused."""


class Usage:
    """What all connections of a process make it keep. Not thread-safe: one loop writes it, whoever
    reads it elsewhere sees numbers of about now."""

    __slots__ = (
        "_peers",
        "connections",
        "given_up",
        "held",
        "limits",
        "queued",
        "reached",
        "refused",
        "requests",
        "unread",
    )

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.connections = 0
        self.requests = 0
        """Calls, and requests of streams, that are under way."""
        self.held = 0
        """Bytes of requests that are not complete."""
        self.queued = 0
        """Bytes of the inputs of requests that wait or run."""
        self.unread = 0
        """Bytes of answers that wait until their callers read."""
        self.given_up = 0
        """Calls whose callers had left before they were read."""
        self.reached: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
        """How often each limit was."""
        self.refused: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        """Connections, by reason."""
        self._peers: Counter[str] = Counter()

    def enter(self, peer: str) -> bool:
        """Take in a connection from this address, if there is room for it."""
        limits = self.limits
        if self.connections >= limits.max_connections:
            self.refused["max_connections"] += 1
            return False
        if self._peers[peer] >= limits.max_connections_per_peer:
            self.refused["max_connections_per_peer"] += 1
            return False
        self.connections += 1
        self._peers[peer] += 1
        return True

    def leave(self, peer: str) -> None:
        """A connection that was taken in is over."""
        self.connections -= 1
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]

    def share(self, most: int) -> int:
        """What a connection may have of something of which all together have `most` already: few
        that have taken it all must not keep the others out. All shares are half of `most`."""
        return most // (2 * max(1, self.connections))

    def check_queue(self, size: int) -> None:
        """TooMany if there is no room for inputs of `size` bytes."""
        if self.queued + size > self.limits.max_queue_bytes:
            raise self.too_many("max_queue_bytes", "bytes of inputs that wait")

    def reach(self, limit: str) -> None:
        """Count that a caller has come to this limit."""
        self.reached[limit] += 1

    def too_many(self, limit: str, what: str) -> TooMany:
        """What a caller hears who has come to a limit, which is counted: so many of `what`."""
        self.reach(limit)
        return TooMany(told(limit, getattr(self.limits, limit), what), RETRY_AFTER)


def told(limit: str, most: float, what: str) -> str:
    """The sentence for a limit that is reached: `what` there can be at most, and the setting."""
    return f"above the limit of {most} {what} (setting {limit})"
