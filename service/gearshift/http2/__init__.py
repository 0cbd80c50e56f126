"""HTTP/2 for servers (RFC 9113) on an asyncio transport: frames, flow control, streams.

Knows nothing of what is asked or answered: `gearshift.rpc` speaks gRPC on top of it. Why not
grpcio's own server: docs/decisions/2026-11-26-front-door.md.
"""

from gearshift.http2.connection import Connection
from gearshift.http2.limits import MAX_STREAMS
from gearshift.http2.stream import NOBODY, Receiver, Stream
from gearshift.http2.turns import Turns

__all__ = ["MAX_STREAMS", "NOBODY", "Connection", "Receiver", "Stream", "Turns"]
