"""Header blocks (HPACK, RFC 7541): read with a memory, written without one.

Almost every request of a client has the same header block: a few indices of fields that are in
the table which both sides keep, and perhaps literals that are not to be put into it. What such a
block means is remembered for as long as the table stays as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

import hpack

from gearshift.core.limits import told
from gearshift.http2.fields import IMPOSSIBLE, fault_of_request, fault_of_trailers, promised
from gearshift.http2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ConnectionFault

# At its debug level it writes every header field down, tokens included.
logging.getLogger("hpack").setLevel(logging.WARNING)

REMEMBERED = 8 * 1024
"""Bytes of the blocks that are remembered of one connection and of the fields in them."""

MOST_RESIZES = 2
"""Table size updates in front of a block (section 4.2); each costs work and says nothing."""

Fields = list[tuple[bytes, bytes]]
Meaning = TypeVar("Meaning")


class Block(NamedTuple, Generic[Meaning]):
    """What a block says if a request begins with it, None where none can, and how many bytes of
    DATA it promises (or UNSAID); and what is wrong with it for a request and for trailers."""

    meaning: Meaning | None
    promised: int
    request_fault: str
    trailers_fault: str


class HeaderReader(Generic[Meaning]):
    """One connection's incoming blocks. `interpret` says what the fields of a request mean."""

    def __init__(self, interpret: Callable[[Fields], Meaning], max_list: int) -> None:
        """`max_list`: bytes of a request's fields, as HTTP/2 counts them."""
        self._interpret = interpret
        self._max_list = max_list
        self._decoder = hpack.Decoder(max_header_list_size=max_list)
        self._known: dict[bytes, Block[Meaning]] = {}
        self._remembered = 0

    def read(self, block: bytes) -> Block[Meaning]:
        known = self._known.get(block)
        if known is not None:
            return known
        if resizes(block) > MOST_RESIZES:
            raise ConnectionFault(COMPRESSION_ERROR, "the table is resized again and again")
        try:
            decoded = self._decoder.decode(block, raw=True)
        except hpack.OversizedHeaderListError:
            raise ConnectionFault(
                ENHANCE_YOUR_CALM,
                told("max_metadata_bytes", self._max_list, "bytes of header fields"),
            ) from None
        except hpack.HPACKError:
            # Not in hpack's words: they may have the address of something in memory.
            raise ConnectionFault(COMPRESSION_ERROR, "a header block is not HPACK") from None
        fields = [(bytes(name), bytes(value)) for name, value in decoded]
        fault = fault_of_request(fields)
        length = promised(fields)
        if length == IMPOSSIBLE:
            fault = fault or "content-length is no number, or several"
        meaning = None if fault else self._interpret(fields)
        read = Block(meaning, length, fault, fault_of_trailers(fields))
        if changes_table(block):
            # What indices mean is no longer what it was.
            self._known.clear()
            self._remembered = 0
        else:
            size = len(block) + sum(len(name) + len(value) for name, value in fields)
            if self._remembered + size <= REMEMBERED:
                self._remembered += size
                self._known[block] = read
        return read


def resizes(block: bytes) -> int:
    """How many table size updates the block begins with, as far as MOST_RESIZES + 1."""
    at = count = 0
    while at < len(block) and block[at] & 0xE0 == 0x20 and count <= MOST_RESIZES:
        count += 1
        if block[at] & 0x1F == 0x1F:  # the size goes on in the next bytes
            at += 1
            while at < len(block) and block[at] & 0x80:
                at += 1
        at += 1
    return count


def changes_table(block: bytes) -> bool:
    """Does this sound block put a field into the table, or change its size (section 6)?"""
    at, end = 0, len(block)
    while at < end:
        first = block[at]
        if first & 0x80:  # an index
            _, at = _integer(block, at, 0x7F)
        elif first & 0x60:  # a literal for the table, or its new size
            return True
        else:  # a literal, its name an index or a text
            name, at = _integer(block, at, 0x0F)
            for _ in range(1 if name else 2):
                size, at = _integer(block, at, 0x7F)
                at += size
    return False


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """The integer that begins in the `mask` bits at `at`, and where it ends (section 5.1)."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        value += (byte & 0x7F) << shift
        shift += 7
        at += 1
        if byte < 0x80:
            return value, at


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
