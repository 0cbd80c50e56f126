"""How many things a message says there are, counted before protobuf makes objects of them.

An empty tensor takes two bytes of a message and a hundred times that once it is parsed, so that the
limit on a message's bytes alone would not bound memory. What protobuf keeps of the rest is at most
eight times what was sent: packed numbers of one byte become eight.
"""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from gearshift.errors import InvalidInput

MOST_ENTRIES = 4_096
"""Fields of a request and of its tensors, their numbers and elements not counted."""

LONGEST_SHAPE = 4_096
"""Bytes of one tensor's shape."""

_VARINT, _EIGHT, _SIZED, _FOUR = 0, 1, 2, 5
_WIDTHS = {_EIGHT: 8, _FOUR: 4}


def _number(message: type, field: str) -> int:
    return int(message.DESCRIPTOR.fields_by_name[field].number)  # type: ignore[attr-defined]


_REQUEST = pb.ModelInferRequest
_TENSORS = frozenset(_number(_REQUEST, name) for name in ("inputs", "outputs"))
_INPUT = _REQUEST.InferInputTensor
_SHAPE = _number(_INPUT, "shape")


def check_entries(message: bytes) -> None:
    """InvalidInput for a ModelInferRequest of too many parts. What is no message at all is left to
    the parser."""
    count = 0
    # Whole message first, then the tensors in it: (from, to, is it a tensor).
    parts = [(0, len(message), False)]
    while parts:
        at, end, inside = parts.pop()
        while at < end:
            count += 1
            if count > MOST_ENTRIES:
                raise InvalidInput(
                    f"the request has more than {MOST_ENTRIES} fields; give each tensor and each"
                    f" parameter once, and numbers packed"
                )
            tag, at = _varint(message, at, end)
            kind, number = tag & 7, tag >> 3
            if kind == _SIZED:
                size, at = _varint(message, at, end)
                if inside and number == _SHAPE and size > LONGEST_SHAPE:
                    raise InvalidInput(
                        f"a tensor's shape takes {size} bytes; at most {LONGEST_SHAPE} are read"
                    )
                if not inside and number in _TENSORS:
                    parts.append((at, min(at + size, end), True))
                at += size
            elif kind == _VARINT:
                _, at = _varint(message, at, end)
            else:
                at += _WIDTHS.get(kind, 0)


def _varint(message: bytes, at: int, end: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends; behind the end if it does not."""
    value = shift = 0
    while at < end and shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, end
