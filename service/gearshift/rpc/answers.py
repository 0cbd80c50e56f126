"""Answers as bytes: ModelInferResponse, put together from parts that are made only once.

A protobuf message is the sum of its fields in any order, so that the bytes of two messages one
after the other are the bytes of both merged (protobuf encoding guide, "last one wins"). What
does not change from answer to answer is serialized by protobuf once and kept; the rest is a
few numbers and the tensors themselves.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from itertools import count
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from gearshift.core.catalog import Model, TensorSpec
from gearshift.engine import Answer
from gearshift.rpc.datatypes import DATATYPES, to_buffer, to_raw
from gearshift.rpc.shared_memory import Place

BYTES_FIELD, VARINT_FIELD = 2, 0
"""Wire types."""


def _tag(message: Any, field: str, wire_type: int) -> bytes:
    return bytes(((message.DESCRIPTOR.fields_by_name[field].number << 3) | wire_type,))


ID = _tag(pb.ModelInferResponse, "id", BYTES_FIELD)
PARAMETERS = _tag(pb.ModelInferResponse, "parameters", BYTES_FIELD)
RAW = _tag(pb.ModelInferResponse, "raw_output_contents", BYTES_FIELD)
INT64 = _tag(pb.InferParameter, "int64_param", VARINT_FIELD)
KEY, VALUE = b"\x0a", b"\x12"
"""A map's entry: the fields 1 and 2."""

MOST_KEPT = 1_024
"""Parts kept for each model: callers choose rows and classes, but not how much is kept."""


class AnswerWriter:
    """Writes the answers of one model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._outputs = {spec.name: spec for spec in model.signature.outputs}
        self._told: dict[tuple[int, str, str], bytes] = {}
        self._described: dict[tuple[str, int], bytes] = {}
        # Unique among processes and restarts, and cheaper than a random one for each answer.
        self._prefix = uuid.uuid4().hex
        self._numbers = count(1)

    def write(self, message: Any, answer: Answer, places: Mapping[str, Place]) -> bytes:
        """The answer to the ModelInferRequest `message`: the wanted outputs raw, in the order
        asked for. Those with a place are written there, and their raw contents are empty:
        clients read output i from raw contents i."""
        request_id = message.id.encode() or b"%s-%x" % (self._prefix.encode(), next(self._numbers))
        parts = [
            self._constant(answer),
            ID,
            varint(len(request_id)),
            request_id,
            QUEUE(round(answer.queue * 1e6)),
            COMPUTE(round(answer.compute * 1e6)),
            BATCH_SIZE(answer.batch_size),
        ]
        if answer.budget < math.inf:
            parts.append(BUDGET(round(answer.budget * 1e6)))
        wanted = [self._outputs[output.name] for output in message.outputs]
        for spec in wanted or self._model.signature.outputs:
            array = answer.outputs[spec.name]
            place = places.get(spec.name)
            if place is None:
                raw = to_raw(array, DATATYPES[spec.datatype])
            else:
                place.write(to_buffer(array, DATATYPES[spec.datatype]))
                raw = b""
            parts += (self._description(spec, len(array)), RAW, varint(len(raw)), raw)
        return b"".join(parts)

    def _constant(self, answer: Answer) -> bytes:
        key = (answer.variant.version, answer.service_class, answer.reason.value)
        known = self._told.get(key)
        if known is None:
            response = pb.ModelInferResponse(
                model_name=self._model.name, model_version=str(answer.variant.version)
            )
            told = response.parameters
            told["variant"].string_param = answer.variant.name
            told["accuracy"].double_param = answer.accuracy
            told["service_class"].string_param = answer.service_class
            told["reason"].string_param = answer.reason.value
            known = self._told[key] = response.SerializeToString()
        return known

    def _description(self, spec: TensorSpec, rows: int) -> bytes:
        known = self._described.get((spec.name, rows))
        if known is None:
            response = pb.ModelInferResponse()
            response.outputs.add(name=spec.name, datatype=spec.datatype, shape=(rows, *spec.shape))
            known = response.SerializeToString()
            if len(self._described) < MOST_KEPT:
                self._described[spec.name, rows] = known
        return known


def varint(value: int) -> bytes:
    """A number of 0 or more, seven bits a byte, lowest first."""
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


class Integer:
    """Writes one whole-numbered parameter of responses."""

    def __init__(self, name: str) -> None:
        # By the bytes that the number takes: all that stands before it.
        self._heads = []
        for size in range(11):
            parameter = bytes((1 + size,)) + INT64
            entry = KEY + bytes((len(name),)) + name.encode() + VALUE + parameter
            self._heads.append(PARAMETERS + varint(len(entry) + size) + entry)

    def __call__(self, value: int) -> bytes:
        """Below 0, which only a clock that jumps could make, is 0."""
        number = varint(value) if value > 0 else b"\x00"
        return self._heads[len(number)] + number


QUEUE, COMPUTE = Integer("queue_us"), Integer("compute_us")
BUDGET, BATCH_SIZE = Integer("budget_us"), Integer("batch_size")
