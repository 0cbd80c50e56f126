"""What callers send: messages and header blocks, mistakes included."""

from __future__ import annotations

from functools import lru_cache

import grpc
import hpack
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from gearshift.http2 import frames
from gearshift.http2.header_blocks import write
from gearshift.rpc.infer import UNARY
from gearshift.v1 import gearshift_pb2
from simulation.history import Heard
from simulation.scenario import MAX_BATCH, Ask

STATUS = {str(code.value[0]): code.name for code in grpc.StatusCode}
CONTROL = gearshift_pb2.DESCRIPTOR.services_by_name["Gearshift"].full_name
SERVICE = UNARY.rsplit("/", 1)[0]
FRAME = frames.DEFAULT_FRAME


def code_of(number: int, row: int) -> int:
    """What stands in a row of a request: no other row of a run has it."""
    return number * 8 + row


def parts_of(code: float) -> tuple[int, int]:
    return divmod(int(code), 8)


@lru_cache(maxsize=4096)
def fields_of(block: bytes) -> dict[bytes, bytes]:
    """The server's header blocks are literals: they mean the same whatever came before."""
    return {bytes(k): bytes(v) for k, v in hpack.Decoder().decode(block, raw=True)}


@lru_cache(maxsize=1024)
def headers(
    path: str, timeout: str, encoding: str, more: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", f"/{path}".encode()),
        (b":authority", b"x"),
        (b"content-type", b"application/grpc"),
    ]
    if timeout:
        fields.append((b"grpc-timeout", timeout.encode()))
    if encoding:
        fields.append((b"grpc-encoding", encoding.encode()))
    return write((*fields, *more))


def message_of(ask: Ask) -> bytes:
    """The ModelInferRequest, mistakes included."""
    if ask.wrong == "garbage":
        return b"\xff\xff\xff"
    wrong = ask.wrong
    rows = MAX_BATCH + 1 if wrong == "rows" else ask.rows
    request = pb.ModelInferRequest(
        model_name="nobody" if wrong == "model" else ask.model,
        id=f"{ask.number}-".ljust(ask.id_size, "i") if ask.id_size else "",
    )
    version = {"version": "9", "version_text": "abc"}.get(wrong)
    if version:
        request.model_version = version
    shape = (rows, 3)
    datatype = "FP64" if wrong == "datatype" else "FP32"
    request.inputs.add(name="z" if wrong == "tensor" else "x", datatype=datatype, shape=shape)
    data = np.zeros(shape, np.float32)
    data[:, 0] = [code_of(ask.number, row) for row in range(rows)]
    raw = data.tobytes()
    request.raw_input_contents.append(raw[:-1] if wrong == "short" else raw)
    told = request.parameters
    if ask.budget_ms is not None:
        told["latency_budget_ms"].double_param = ask.budget_ms
    if wrong == "budget":
        told["latency_budget_ms"].double_param = -1.0
    if ask.floor is not None:
        told["min_accuracy"].double_param = ask.floor
    if wrong == "floor":
        told["min_accuracy"].string_param = "nan"
    if ask.service_class or wrong == "class":
        told["service_class"].string_param = "nobody's" if wrong == "class" else ask.service_class
    if ask.variant or wrong == "variant":
        told["variant"].string_param = "nobody" if wrong == "variant" else ask.variant
    if wrong == "parameter":
        told["latency_budget"].int64_param = 5
    return bytes(request.SerializeToString(deterministic=True))


def number_of_answer(response: pb.ModelInferResponse) -> int | None:
    """Whose answer it is, by its id."""
    request_id, _, _ = response.id.partition("-")
    return int(request_id) if request_id.isdigit() else None


def is_named(heard: Heard, request_id: str) -> bool:
    ask = heard.ask
    if ask.id_size and ask.wrong != "garbage":
        return request_id.startswith(f"{ask.number}-")
    return request_id == ""


def timeout_of(seconds: float | None) -> str:
    return "" if seconds is None else f"{round(seconds * 1e6)}u"
