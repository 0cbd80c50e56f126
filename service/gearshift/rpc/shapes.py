"""What is remembered of the requests of one connection, so that most need no parsing.

Requests of one caller are mostly the same bytes but for their id and their raw contents. What
protobuf and the codec have read from one of them holds for the next one that has the same bytes
around those: a field's bytes mean the same in every message, and an id is nothing but text. Where
any other byte differs, nothing is known and the request is parsed.

Kept by connection, few of them and small ones: no caller can push out what is known of another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from gearshift.core.catalog import Model
from gearshift.core.request import Request
from gearshift.ports import BYTES, Array, Tensors


def _tag(field: str) -> int:
    """Of a field whose content is a length and so many bytes."""
    return int(pb.ModelInferRequest.DESCRIPTOR.fields_by_name[field].number << 3 | 2)


MODEL, ID, RAW = _tag("model_name"), _tag("id"), _tag("raw_input_contents")

MOST_KEPT = 8
"""Shapes of one connection."""

MOST_FIELDS, MOST_BYTES = 64, 4_096
"""Of a request whose shape is kept, without its raw contents."""

LONGEST_ID = 0x7F
"""Bytes; the length of a longer one takes more than one byte, and such requests are parsed."""

Known = tuple[Model, Request, Sequence[str], bytes, Tensors]
"""What a request says: model, parameters and deadline, names of the wanted outputs, id, tensors."""


class Layout(NamedTuple):
    """Where in a message its id's length is, 0 if it has none, and the raw contents, its end."""

    id_at: int
    raws: Sequence[tuple[int, int]]


def layout_of(message: bytes) -> Layout | None:
    """None where a message is not laid out as serializers do it, or is larger than what is kept."""
    id_at, at, around, size = 0, 0, 0, len(message)
    raws: list[tuple[int, int]] = []
    for _ in range(MOST_FIELDS):
        if at == size:
            return Layout(id_at, raws) if raws and around <= MOST_BYTES else None
        tag = message[at]
        length, begin = _length(message, at + 1)
        end = begin + length
        if tag >= 0x80 or tag & 7 != 2 or end > size or (raws and tag != RAW):
            return None
        if tag == RAW:
            raws.append((begin, end))
            around -= length
        elif tag == ID:
            if id_at or begin != at + 2:
                return None
            id_at = at + 1
        around += end - at
        at = end
    return None


def model_of(message: bytes) -> str:
    """The name of the model, of which protobuf need not be asked; "" where a message does not begin
    with it, as serializers do it."""
    if not message or message[0] != MODEL:
        return ""
    length, begin = _length(message, 1)
    return message[begin : begin + length].decode(errors="replace")


def _length(message: bytes, at: int) -> tuple[int, int]:
    """The length that begins at `at`, and where it ends; beyond the message if it does not."""
    value = shift = 0
    for place in range(at, min(at + 5, len(message))):
        byte = message[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    return 0, len(message) + 1


class Shape:
    """Requests that differ in nothing but their id and their raw contents."""

    __slots__ = (
        "_around",
        "_fixed",
        "_head",
        "_id_at",
        "_model",
        "_request",
        "_tensors",
        "_wanted",
    )

    def __init__(
        self,
        message: bytes,
        layout: Layout,
        model: Model,
        request: Request,
        wanted: Sequence[str],
        inputs: Tensors,
    ) -> None:
        """`inputs` are those that the raw contents of `message` are, in their order."""
        self._model = model
        self._request = request
        self._wanted = wanted
        self._id_at = at = layout.id_at
        id_size = message[at] if at else 0
        self._head = message[:at]
        self._fixed = len(message) - id_size
        # Places count from the end of the id.
        begin = after = at + 1 + id_size if at else 0
        self._around: list[tuple[int, bytes]] = []
        self._tensors: list[tuple[int, int, str, np.dtype[Any], tuple[int, ...]]] = []
        for (first, end), (name, array) in zip(layout.raws, inputs.items(), strict=True):
            self._around.append((after - begin, message[after:first]))
            self._tensors.append((first - begin, end - begin, name, array.dtype, array.shape))
            after = end

    def read(self, message: bytes, remaining: float) -> Known | None:
        """None if the message has another shape."""
        id_size = len(message) - self._fixed
        at = self._id_at
        if at:
            if not 0 <= id_size <= LONGEST_ID or message[at] != id_size:
                return None
            begin = at + 1 + id_size
            request_id = message[at + 1 : begin]
            # Whether other bytes are text, protobuf shall say.
            if not request_id.isascii() or not message.startswith(self._head):
                return None
        else:
            if id_size:
                return None
            begin, request_id = 0, b""
        for where, bytes_there in self._around:
            if not message.startswith(bytes_there, begin + where):
                return None
        inputs: dict[str, Array] = {}
        for first, end, name, datatype, shape in self._tensors:
            # A copy: inside the message the numbers might lie across their natural places.
            inputs[name] = np.ndarray(shape, datatype, message[begin + first : begin + end])
        request = self._request
        if remaining != math.inf:
            request = Request(
                model=request.model,
                rows=request.rows,
                version=request.version,
                parameters=request.parameters,
                remaining=remaining,
            )
        return self._model, request, self._wanted, request_id, inputs


class Shapes:
    """Those of one connection, what came last first."""

    __slots__ = ("_kept", "made_for")

    def __init__(self) -> None:
        self._kept: list[Shape] = []
        self.made_for: object = None
        """For which catalog they were learned, by what is made anew with each."""

    def forget(self, made_for: object) -> None:
        """Know nothing any more; what is learned from now on holds for this one."""
        self._kept.clear()
        self.made_for = made_for

    def read(self, message: bytes, remaining: float) -> Known | None:
        """What a message says, if one of its shape was learned."""
        for place, shape in enumerate(self._kept):
            known = shape.read(message, remaining)
            if known is not None:
                if place:
                    del self._kept[place]
                    self._kept.insert(0, shape)
                return known
        return None

    def learn(
        self, message: bytes, parsed: Any, model: Model, request: Request, inputs: Tensors
    ) -> None:
        """Remember what was read from a sound message, `parsed` from it: if its tensors are all
        raw contents, and none of what it says is of this moment only, as a place in shared
        memory is."""
        if len(parsed.raw_input_contents) != len(parsed.inputs):
            return
        if any(tensor.parameters for tensor in (*parsed.inputs, *parsed.outputs)):
            return
        if any(array.dtype == BYTES or not array.size for array in inputs.values()):
            return
        if any(tensor.datatype == "BF16" for tensor in parsed.inputs):
            return  # In memory it is another one than on the wire.
        layout = layout_of(message)
        if layout is None:
            return
        wanted = tuple(output.name for output in parsed.outputs)
        request = replace(request, remaining=math.inf)
        self._kept.insert(0, Shape(message, layout, model, request, wanted, inputs))
        del self._kept[MOST_KEPT:]
