"""An inference request and its answer, between JSON with the binary extension and the protocol's
messages."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from gearshift.http.rest.asking import Mistake
from gearshift.http.rest.values import inferred, listed, packed

HEADER_LENGTH = "Inference-Header-Content-Length"
"""How many bytes of a body are JSON; binary data follow."""

BINARY_SIZE, BINARY, ALL_BINARY = "binary_data_size", "binary_data", "binary_data_output"


LARGEST_JSON = 2 * 2**20
"""Bytes of JSON, or of values that become JSON: reading and writing more of it would keep Python's
lock for longer than others have time."""


REGION = "shared_memory_region"


NO_TEXT = "is no text: it has half a pair of surrogates"


class Wanted:
    """Which outputs are wanted as binary data, and which in shared memory."""

    def __init__(self) -> None:
        self.all = False
        self.by_name: dict[str, bool] = {}
        self.placed: set[str] = set()

    def binary(self, name: str) -> bool:
        return self.by_name.get(name, self.all)


def read_request(
    body: bytes, length: int | None, model: str, version: str
) -> tuple[pb.ModelInferRequest, Wanted]:
    """`length` is how much of the body is JSON, None for all of it. Mistake with a sentence."""
    if length is not None and not 0 <= length <= len(body):
        raise Mistake(f"{HEADER_LENGTH} is {length}, and the body has {len(body)} bytes")
    if len(body[:length]) > LARGEST_JSON:
        raise Mistake(
            f"the request has more than {LARGEST_JSON} bytes of JSON; send tensors as binary data",
            413,
        )
    head = _object(body[:length], "the request")
    binary = memoryview(body)[length:] if length is not None else memoryview(b"")
    known = {"id", "inputs", "outputs", "parameters"}
    # KServe's client says again what the path says.
    repeated = {"model_name": model, "model_version": version}
    unknown = head.keys() - known - repeated.keys()
    if unknown:
        raise Mistake(f"unknown key {min(unknown)!r}; there are {', '.join(sorted(known))}")
    for key, said in repeated.items():
        if head.get(key) not in (None, "", said):
            raise Mistake(f"{key} is {head[key]!r:.100}, and the path says {said!r}")
    request = pb.ModelInferRequest(
        model_name=model, model_version=version, id=_string(head.get("id", ""), "id")
    )
    wanted = Wanted()
    parameters = dict(_mapping(head.get("parameters", {}), "parameters"))
    wanted.all = _truth(parameters.pop(ALL_BINARY, False), f"parameters.{ALL_BINARY}")
    _set(request.parameters, parameters, "parameters")
    at = 0
    for index, given in enumerate(_list(head.get("inputs"), "inputs")):
        at = _read_input(request, given, f"inputs[{index}]", binary, at)
    if at != len(binary):
        raise Mistake(f"{len(binary)} bytes of binary data came, and the inputs take {at}")
    for index, given in enumerate(_list(head.get("outputs", []), "outputs")):
        _read_output(request, given, f"outputs[{index}]", wanted)
    return request, wanted


def _read_input(
    request: pb.ModelInferRequest, given: object, where: str, binary: memoryview, at: int
) -> int:
    """Where the binary data of the next one begin."""
    tensor = _mapping(given, where)
    made = request.inputs.add(
        name=_string(tensor.get("name"), f"{where}.name"),
        datatype=_string(tensor.get("datatype"), f"{where}.datatype"),
    )
    for size in _list(tensor.get("shape"), f"{where}.shape"):
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
            raise Mistake(f"{where}.shape: {str(size)[:50]!r} is no size")
        made.shape.append(size)
    parameters = dict(_mapping(tensor.get("parameters", {}), f"{where}.parameters"))
    size = parameters.pop(BINARY_SIZE, None)
    _set(made.parameters, parameters, f"{where}.parameters")
    for other in (BINARY_SIZE, REGION):
        if other in tensor.get("parameters", {}) and "data" in tensor:
            raise Mistake(f"{where} has data beside {other}; give one of the two")
    if size is None:
        if REGION not in parameters:
            content = packed(made.datatype, tensor.get("data"), where)
            request.raw_input_contents.append(content)
        return at
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary) - at:
        raise Mistake(f"{where}: {BINARY_SIZE} is {size!r}, and {len(binary) - at} bytes are left")
    request.raw_input_contents.append(bytes(binary[at : at + size]))
    return at + size


def _read_output(request: pb.ModelInferRequest, given: object, where: str, wanted: Wanted) -> None:
    output = _mapping(given, where)
    name = _string(output.get("name"), f"{where}.name")
    parameters = dict(_mapping(output.get("parameters", {}), f"{where}.parameters"))
    if BINARY in parameters:
        wanted.by_name[name] = _truth(parameters.pop(BINARY), f"{where}.parameters.{BINARY}")
    if REGION in parameters:
        wanted.placed.add(name)
    made = request.outputs.add(name=name)
    _set(made.parameters, parameters, f"{where}.parameters")


def read_raw(
    body: bytes, model: pb.ModelMetadataResponse, version: str
) -> tuple[pb.ModelInferRequest, Wanted]:
    """A request that is nothing but the bytes of one row for the only input of this model (binary
    extension, raw binary request); what comes back is binary. BYTES are one element, without its
    length before it. Mistake if the shape does not follow from that."""
    if len(model.inputs) != 1:
        names = ", ".join(each.name for each in model.inputs)
        raise Mistake(f"raw bytes without JSON can be only one input, and there are: {names}")
    (tensor,) = model.inputs
    request = pb.ModelInferRequest(model_name=model.name, model_version=version)
    made = request.inputs.add(name=tensor.name, datatype=tensor.datatype)
    made.shape.extend(inferred(tensor.datatype, tensor.shape, len(body)))
    length = struct.pack("<I", len(body)) if tensor.datatype == "BYTES" else b""
    request.raw_input_contents.append(length + body)
    wanted = Wanted()
    wanted.all = True
    return request, wanted


def write_answer(answer: pb.ModelInferResponse, wanted: Wanted) -> tuple[bytes, int | None]:
    """The body, and how much of it is JSON if binary data follow."""
    raw = iter(answer.raw_output_contents)
    binary: list[bytes] = []
    outputs = []
    room = LARGEST_JSON
    for output in answer.outputs:
        told: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.shape),
        }
        parameters = values_of(output.parameters)
        content = next(raw)
        if wanted.binary(output.name) and output.name not in wanted.placed:
            parameters[BINARY_SIZE] = len(content)
            binary.append(content)
        elif output.name not in wanted.placed:
            room -= len(content)
            if room < 0:
                raise Mistake(
                    f"the outputs have more than {LARGEST_JSON} bytes; ask for binary data"
                )
            told["data"] = listed(output.datatype, content)
        if parameters:
            told["parameters"] = parameters
        outputs.append(told)
    head = {
        "model_name": answer.model_name,
        "model_version": answer.model_version,
        "id": answer.id,
        "parameters": values_of(answer.parameters),
        "outputs": outputs,
    }
    text = json.dumps(head, separators=(",", ":")).encode()
    if not binary:
        return text, None
    return b"".join((text, *binary)), len(text)


# --- parameters -------------------------------------------------------------------------------


def values_of(parameters: Any) -> dict[str, Any]:
    """The protocol's parameters as JSON's values."""
    return {
        name: getattr(parameter, parameter.WhichOneof("parameter_choice"))
        for name, parameter in parameters.items()
        if parameter.WhichOneof("parameter_choice") is not None
    }


def _set(parameters: Any, given: Mapping[str, Any], where: str) -> None:
    for name, value in given.items():
        if isinstance(value, bool):
            parameters[name].bool_param = value
        elif isinstance(value, int) and -(2**63) <= value < 2**63:
            parameters[name].int64_param = value
        elif isinstance(value, int | float):
            try:
                parameters[name].double_param = float(value)
            except OverflowError:
                raise Mistake(f"{where}.{name} is too large") from None
        elif isinstance(value, str):
            parameters[name].string_param = value
        else:
            raise Mistake(f"{where}.{name} must be a truth value, a number or a text")


# --- JSON -------------------------------------------------------------------------------------


def _object(text: bytes, what: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Mistake(f"{what} is no JSON: {error}") from None
    return _mapping(found, what)


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Mistake(f"{where} must be an object")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise Mistake(f"{where} must be a list")
    return value


def _truth(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise Mistake(f"{where} must be true or false")
    return value


def _string(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise Mistake(f"{where} must be a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Mistake(f"{where} {NO_TEXT}") from None
    return value
