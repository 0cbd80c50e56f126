"""The bound of docs/limits.md: what callers can make a server keep, from its limits."""

from __future__ import annotations

from collections.abc import Iterator

from gearshift.core.limits import KIB, MIB, HttpLimits, Limits

IDLE_CONNECTION = 4 * KIB
WORST_CONNECTION = 256 * KIB
"""Bytes of a connection that is only there; and of one that does its worst: a full header table,
remembered header blocks and shapes of requests, and a buffer of answers just below where writing
pauses."""

REQUEST = 8 * KIB
"""Of a call or a request under way beyond its bytes: its objects."""

SHARED = 1.5
"""Beyond what all together may have, each connection has its share of a half (`Usage.share`)."""

OVERHEAD = 1.25
"""Of buffers that grow, beyond what is in them."""

PARSED = 8
"""How many times as large as its bytes a message is at most once it is parsed."""

BODIES, COPIES = 2, 5
"""Times `max_message_bytes` that bodies have together, and how often they are in memory."""

PAGE = 4 * MIB
"""Of a page of metrics that an HTTP connection may have unread; a thousand variants take less."""


def parts(limits: Limits, http: HttpLimits) -> Iterator[tuple[str, str, int]]:
    """What it is, the formula, and its bytes."""
    connections = limits.max_connections
    yield (
        "connections, each at its worst",
        f"max_connections x {WORST_CONNECTION // KIB} KiB",
        connections * WORST_CONNECTION,
    )
    yield (
        "requests under way",
        f"max_requests x {SHARED:g} x {REQUEST // KIB} KiB",
        round(limits.max_requests * SHARED * REQUEST),
    )
    yield (
        "requests that are not complete",
        f"max_held_bytes x {SHARED:g} x {OVERHEAD:g}",
        round(limits.max_held_bytes * SHARED * OVERHEAD),
    )
    yield (
        "inputs that wait or run, and a batch put together from them",
        "max_queue_bytes x 2",
        2 * limits.max_queue_bytes,
    )
    yield (
        "answers that are not read",
        f"max_unread_bytes x {SHARED:g} x {OVERHEAD:g}",
        round(limits.max_unread_bytes * SHARED * OVERHEAD),
    )
    yield (
        "the one message that is being read",
        f"max_message_bytes x {PARSED + 2}",
        (PARSED + 2) * limits.max_message_bytes,
    )
    yield (
        "the one message that is being unpacked",
        "max_message_bytes x 2",
        2 * limits.max_message_bytes,
    )
    yield (
        "bodies that came over HTTP, as they go on to gRPC",
        f"max_message_bytes x {BODIES} x {COPIES}",
        BODIES * COPIES * limits.max_message_bytes,
    )
    yield (
        "HTTP connections, each with a page that it does not read",
        f"max_http_connections x {PAGE // MIB} MiB",
        http.connections * (PAGE + http.head_bytes),
    )


def bound(limits: Limits, http: HttpLimits) -> int:
    """Bytes beyond what the server takes when nobody calls."""
    return sum(size for _, _, size in parts(limits, http))


PIXEL = 12
"""Bytes of one that is decoded, while it becomes a tensor."""


def pictures(threads: int, most_pixels: int) -> int:
    """Bytes beyond that where a model takes pictures: each thread decodes one at a time."""
    return threads * most_pixels * PIXEL
