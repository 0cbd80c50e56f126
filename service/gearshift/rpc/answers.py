"""Answers as bytes: ModelInferResponse, put together from parts that are made only once.

A protobuf message is the sum of its fields in any order, so that the bytes of two messages one
after the other are the bytes of both merged (protobuf encoding guide, "last one wins"). What
does not change from answer to answer is serialized by protobuf once and kept; the rest is a
few numbers and the tensors themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from gearshift.core.catalog import Model
from gearshift.engine import Answer
from gearshift.ports import Array
from gearshift.rpc.classes import Top, Wanted, classes
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


Head = tuple[object, ...]
"""All that the head of an answer depends on. A variant's accuracy is learned, and changes."""

LARGE = 64 * 1024
"""Bytes of a batch's output."""


@dataclass(slots=True)
class Common:
    """What the answers of one batch have in common: numbers as they are written, each output's raw
    bytes with how many of them a row has, but for BYTES, which differ in length; and the outputs
    themselves, with those that the model's steps made."""

    numbers: bytes
    raws: Mapping[str, tuple[bytes | memoryview, int]]
    outputs: Mapping[str, Array]


class AnswerWriter:
    """Writes the answers of one model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._outputs = {spec.name: spec for spec in model.wire.outputs}
        self._all = tuple(self._outputs)
        self._labels = {step.of: step.labels for step in model.after if step.labels}
        self._heads: dict[Head, bytes] = {}
        # Requests that came together have waited alike.
        self._queue, self._told_queue = 0, QUEUE(0)

    def write(
        self,
        request_id: bytes,
        wanted: Sequence[Wanted],
        answer: Answer,
        places: Mapping[str, Place],
        prepared: float | None = None,
    ) -> bytes:
        """The answer to a request with this id: the wanted outputs raw, or their classes, in the
        order asked for, all of them if none is named. Those with a place are written there, and
        their raw contents are empty: clients read output i from raw contents i. `prepared`: seconds
        that the model's steps took before it, if there were any."""
        run, ticket, reason, first, cascade = answer
        rows = ticket.rows
        common: Common | None = run.kept
        if common is None:
            common = run.kept = self._common(answer)
        variant = run.variant
        key: Head = (variant.version, variant.accuracy, ticket.service_class, reason, wanted, rows)
        if cascade is not None:
            key = (*key, cascade.name, cascade.accuracy)
        head = self._heads.get(key)
        if head is None:
            head = self._head(answer, wanted)
            if len(self._heads) >= MOST_KEPT:
                self._heads.clear()
            self._heads[key] = head
        queue = round(answer.queue * 1e6)
        if queue != self._queue:
            self._queue, self._told_queue = queue, QUEUE(queue)
        parts: list[bytes | memoryview]
        parts = [head, ID, varint(len(request_id)), request_id, self._told_queue, common.numbers]
        if ticket.deadline < math.inf:
            parts.append(BUDGET(round(answer.budget * 1e6)))
        if prepared is not None:
            parts.append(PREPARE(round(prepared * 1e6)))
        raw: bytes | memoryview
        for name in wanted or self._all:
            if isinstance(name, Top):
                array = common.outputs[name.output][first : first + rows]
                told = classes(array, name.best, self._labels.get(name.output, ()))
                raw = to_raw(told, DATATYPES["BYTES"])
                parts += (RAW, varint(len(raw)), raw)
                continue
            if name in common.raws:
                whole, size = common.raws[name]
                raw = whole[first * size : (first + rows) * size]
            else:
                raw = to_raw(common.outputs[name][first : first + rows], DATATYPES["BYTES"])
            if name in places:
                places[name].write(raw)
                raw = b""
            parts += (RAW, varint(len(raw)), raw)
        return b"".join(parts)

    def _common(self, answer: Answer) -> Common:
        run = answer.run
        numbers = COMPUTE(round(answer.compute * 1e6)) + BATCH_SIZE(run.rows)
        raws: dict[str, tuple[bytes | memoryview, int]] = {}
        outputs = dict(run.outputs)
        for step in self._model.after:
            outputs[step.makes.name] = step.rows(outputs[step.of])
        for name, spec in self._outputs.items():
            array, datatype = outputs[name], DATATYPES[spec.datatype]
            if spec.datatype != "BYTES":
                # Small rows are quicker taken out of bytes, large ones not copied out of a view.
                raw = (to_raw if array.nbytes < LARGE else to_buffer)(array, datatype)
                raws[name] = raw, len(raw) // run.rows
        return Common(numbers, raws, outputs)

    def _head(self, answer: Answer, wanted: Sequence[Wanted]) -> bytes:
        """All of an answer that depends on nothing but who answers, why, and what is asked for."""
        run, ticket, reason, _, cascade = answer
        variant = run.variant
        response = pb.ModelInferResponse(
            model_name=self._model.name, model_version=str(variant.version)
        )
        told = response.parameters
        told["variant"].string_param = variant.name
        told["accuracy"].double_param = answer.accuracy
        if cascade is not None:
            told["cascade"].string_param = cascade.name
        told["service_class"].string_param = ticket.service_class
        told["reason"].string_param = reason.value
        for name in wanted or self._all:
            if isinstance(name, Top):
                shape: tuple[int, ...] = (ticket.rows, name.best)
                response.outputs.add(name=name.output, datatype="BYTES", shape=shape)
                continue
            spec = self._outputs[name]
            shape = (ticket.rows, *spec.shape)
            response.outputs.add(name=name, datatype=spec.datatype, shape=shape)
        # Made once and kept: the same answer is the same bytes in every process.
        return bytes(response.SerializeToString(deterministic=True))


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
PREPARE = Integer("prepare_us")
