"""Compressed messages. Small ones are unpacked as they come; what grows large, in a thread.

To unpack 64 MiB, for which 64 KB may have come, takes a quarter of a second. On the loop nobody
else would be served in that time. So it is done beside it, for one message after the other: whoever
sends such messages keeps one thread busy, and makes the server hold one of them.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from gearshift.core.limits import KIB
from gearshift.rpc import wire

AT_ONCE = 256 * KIB
"""Bytes, unpacked, that the loop takes the time for: a millisecond."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A message of more than AT_ONCE bytes, of which `most` are allowed, in some encoding."""

    message: bytes = field(repr=False)
    encoding: bytes
    most: int


def unpacked(message: bytes, encoding: bytes, most: int) -> bytes | Packed:
    """The message, unless that would take long. WireError if it is damaged or too large."""
    if most <= AT_ONCE:
        return wire.decompressed(message, encoding, most)
    try:
        return wire.decompressed(message, encoding, AT_ONCE)
    except wire.TooLarge:
        return Packed(message, encoding, most)


class Unpacker:
    """Unpacks what takes long, for all connections of a server."""

    def __init__(self) -> None:
        # A run goes on when nobody waits for it any more: the next begins only after it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="unpacking")
        self._alone = asyncio.Lock()

    async def whole(self, packed: Packed) -> bytes:
        """WireError if the message is damaged or too large. The next one is not begun before
        whoever waits for this one has taken it."""
        loop, asked = asyncio.get_running_loop(), (packed.message, packed.encoding, packed.most)
        async with self._alone:
            return await loop.run_in_executor(self._thread, wire.decompressed, *asked)

    def close(self) -> None:
        """What has not begun never does; what runs comes to its end."""
        self._thread.shutdown(wait=False, cancel_futures=True)
