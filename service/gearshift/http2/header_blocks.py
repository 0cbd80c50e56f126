"""Header blocks (HPACK, RFC 7541): read with a memory, written without one.

Almost every request of a client has the same header block: once its fields are in the table
that both sides keep, the block is a few indices. What such a block means is remembered for as
long as the table stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import hpack

from gearshift.http2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ConnectionFault

MAX_LIST = 64 * 1024
"""Bytes of all fields of a request, as HTTP/2 counts them."""

MOST_REMEMBERED = 64

Fields = list[tuple[bytes, bytes]]
Meaning = TypeVar("Meaning")


class HeaderReader(Generic[Meaning]):
    """One connection's incoming blocks. `interpret` says what the fields mean."""

    def __init__(self, interpret: Callable[[Fields], Meaning]) -> None:
        self._interpret = interpret
        self._decoder = hpack.Decoder(max_header_list_size=MAX_LIST)
        self._known: dict[bytes, Meaning] = {}

    def read(self, block: bytes) -> Meaning:
        known = self._known.get(block)
        if known is not None:
            return known
        try:
            fields = self._decoder.decode(block, raw=True)
        except hpack.OversizedHeaderListError:
            raise ConnectionFault(
                ENHANCE_YOUR_CALM, f"the headers of a request are above {MAX_LIST} bytes"
            ) from None
        except hpack.HPACKError as error:
            raise ConnectionFault(COMPRESSION_ERROR, f"header block: {error}") from None
        meaning = self._interpret([(bytes(name), bytes(value)) for name, value in fields])
        if not _only_indices(block):
            # It may have changed the table, and with it what indices mean.
            self._known.clear()
        elif len(self._known) < MOST_REMEMBERED:
            self._known[block] = meaning
        return meaning


def _only_indices(block: bytes) -> bool:
    """Is every byte an index of a field that is in the table already (section 6.1)?"""
    return bool(block) and min(block) > 0x80 and max(block) < 0xFF


def write(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A block of literals that no table is needed for (section 6.2.2)."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)


def _text(value: bytes) -> bytes:
    size = len(value)
    if size < 0x7F:
        return bytes((size,)) + value
    rest, more = size - 0x7F, bytearray((0x7F,))
    while rest >= 0x80:
        more.append(rest & 0x7F | 0x80)
        rest >>= 7
    more.append(rest)
    return bytes(more) + value
