"""What one peer can make this side keep, at most."""

MAX_LIST = 64 * 1024
"""Bytes of all fields of a request, as HTTP/2 counts them."""

MAX_STREAMS = 1_024
"""Requests of one connection at a time; the next one is refused, which clients retry."""

MAX_FRAME = 256 * 1024
"""Bytes of a frame from the peer. Large tensors in few pieces, small enough to share the line."""

LARGE = 16 * 1024
"""Bytes from which on a DATA frame is taken as it comes, in parts."""

STREAM_WINDOW = 4 * 1024 * 1024
CONNECTION_WINDOW = 16 * 1024 * 1024
"""Bytes that a peer may send ahead, on a stream and in all."""

MAX_HELD = 256 * 1024 * 1024
"""Bytes of unfinished requests that one connection may have here."""

MAX_BLOCK = 2 * MAX_LIST
"""Bytes of a header block as it is sent."""
