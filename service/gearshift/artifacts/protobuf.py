"""Protobuf's wire format, read without trust and without a schema.

https://protobuf.dev/programming-guides/encoding/. Only what serializers write is taken: no groups,
which were given up, and no varint of more than ten bytes. Fields may stand in any order and any
number of times; who asks decides what that means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

_TAIL = {VARINT: rb"[\x80-\xff]{0,9}[\x00-\x7f]", FIXED64: rb".{8}", FIXED32: rb".{4}"}


class Malformed(ValueError):
    """This is not the wire format; says what it has or is."""


class Field(NamedTuple):
    """One field: its number and wire type; where its content begins and ends (of BYTES without the
    length), and the value of a varint (0 for any other)."""

    number: int
    wire: int
    begin: int
    end: int
    value: int = 0


class Wire:
    """One message. `most` is how many fields of it may be looked at in all, messages in messages
    included: more is Malformed, as is anything that is not the wire format."""

    def __init__(self, data: bytes, most: int) -> None:
        self.data = data
        self._most = self._left = most

    def fields(self, begin: int, end: int, lists: frozenset[int] = frozenset()) -> Iterator[Field]:
        """Those between two places. Of `lists` (field numbers of numbers and texts, written one by
        one, of which there may be a million) only some are given: what is in them does not matter.
        """
        data, at = self.data, begin
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise Malformed(f"has more than {self._most} fields")
            start = at
            tag, at = self._varint(at, end)
            number, wire = tag >> 3, tag & 7
            if not 0 < number < 2**29:
                raise Malformed(f"has a field with the number {number}")
            if wire == BYTES:
                length, at = self._varint(at, end)
                stop = at + length
                if stop > end:
                    raise Malformed("is cut short")
                yield Field(number, wire, at, stop)
            elif wire == VARINT:
                value, stop = self._varint(at, end)
                yield Field(number, wire, at, stop, value)
            elif wire in (FIXED32, FIXED64):
                stop = at + (4 if wire == FIXED32 else 8)
                if stop > end:
                    raise Malformed("is cut short")
                yield Field(number, wire, at, stop)
            else:
                raise Malformed("has a field of a kind that nobody writes")
            at = _behind_run(data, start, stop, end, wire) if number in lists else stop

    def text(self, field: Field) -> str:
        """Its content as text, whatever it is."""
        return self.data[field.begin : field.end].decode("utf-8", "replace")

    def varints(self, field: Field) -> Iterator[int]:
        """The numbers of a field that may be packed (a list in BYTES) or not."""
        if field.wire == VARINT:
            yield field.value
            return
        at = field.begin
        while at < field.end:
            value, at = self._varint(at, field.end)
            yield value

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        data = self.data
        for place in range(at, min(at + 10, end)):
            byte = data[place]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, place + 1
            shift += 7
        raise Malformed("is cut short")


def _behind_run(data: bytes, start: int, stop: int, end: int, wire: int) -> int:
    """Where fields of the kind that stands from `start` to `stop` end to follow each other; short
    of that where one is too long to be passed over."""
    tag = data[start]
    if tag >= 0x80:
        return stop
    if wire != BYTES:
        match = _run(data[start : start + 1], wire).match(data, stop, end)
        return match.end() if match else stop
    at = stop
    while at + 1 < end and data[at] == tag and data[at + 1] < 0x80:
        behind = at + 2 + data[at + 1]
        if behind > end:
            break
        at = behind
    return at


@lru_cache(maxsize=64)
def _run(tag: bytes, wire: int) -> re.Pattern[bytes]:
    # Possessive: nothing is remembered for going back, whatever the length of the run.
    return re.compile(b"(?:" + re.escape(tag) + _TAIL[wire] + b")++", re.DOTALL)
