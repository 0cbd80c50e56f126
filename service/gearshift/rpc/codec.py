"""From protobuf to the engine: requests decoded and checked.

Pure functions. Every mistake in a request is InvalidInput with the tensor's name and what
would be right; the model's signature is the only measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gearshift.core.catalog import Model, TensorSpec
from gearshift.core.request import Parameter, Request
from gearshift.errors import InvalidInput
from gearshift.ports import Array, Tensors
from gearshift.rpc.datatypes import DATATYPES, from_raw, from_typed

SHARED_MEMORY = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")


def decode(message: Any, model: Model, remaining: float) -> tuple[Request, Tensors]:
    """A ModelInferRequest as a Request and its tensors, each (rows, *shape).

    `remaining` is the caller's gRPC deadline in seconds from arrival, inf without one.
    """
    inputs = _inputs(message, model)
    rows = len(next(iter(inputs.values())))
    check_outputs(message, model)
    request = Request(
        model=model.name,
        rows=rows,
        version=message.model_version,
        parameters=parameters_of(message),
        remaining=remaining,
    )
    return request, inputs


def parameters_of(message: Any) -> dict[str, Parameter]:
    """The request's parameters as Python values."""
    values: dict[str, Parameter] = {}
    for name, parameter in message.parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidInput(f"parameter {name} has no value")
        values[name] = getattr(parameter, choice)
    return values


def check_outputs(message: Any, model: Model) -> None:
    """Only outputs that the model has, each once, without extensions that are not served."""
    known = [spec.name for spec in model.signature.outputs]
    seen = set()
    for output in message.outputs:
        if output.name not in known:
            raise InvalidInput(
                f"model {model.name!r} has no output {output.name!r}; it has {', '.join(known)}"
            )
        if output.name in seen:
            raise InvalidInput(f"output {output.name!r} is requested twice")
        seen.add(output.name)
        _check_tensor_parameters(output, f"output {output.name!r}")


def _inputs(message: Any, model: Model) -> Tensors:
    specs = {spec.name: spec for spec in model.signature.inputs}
    if not message.inputs:
        raise InvalidInput(f"the request has no inputs; model {model.name!r} takes {_told(specs)}")
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InvalidInput(
            f"{len(raw)} raw_input_contents for {len(message.inputs)} inputs; there must be"
            f" one for each, in the same order"
        )
    arrays: dict[str, Array] = {}
    rows: int | None = None
    for index, tensor in enumerate(message.inputs):
        spec = specs.get(tensor.name)
        if spec is None:
            raise InvalidInput(
                f"model {model.name!r} has no input {tensor.name!r}; it takes {_told(specs)}"
            )
        where = f"input {tensor.name!r}"
        if tensor.name in arrays:
            raise InvalidInput(f"{where} is given twice")
        shape = _shape(tensor, spec, model, where)
        if rows is not None and shape[0] != rows:
            raise InvalidInput(f"{where} has {shape[0]} rows, the input before it {rows}")
        rows = shape[0]
        _check_tensor_parameters(tensor, where)
        datatype = DATATYPES[spec.datatype]
        if raw:
            if tensor.HasField("contents") and tensor.contents.ByteSize():
                raise InvalidInput(
                    f"{where} has contents beside raw_input_contents; give one of the two"
                )
            arrays[tensor.name] = from_raw(raw[index], datatype, shape, where)
        else:
            if not tensor.HasField("contents"):
                raise InvalidInput(f"{where} has no data: neither contents nor raw contents")
            arrays[tensor.name] = from_typed(tensor.contents, datatype, shape, where)
    missing = [name for name in specs if name not in arrays]
    if missing:
        raise InvalidInput(f"input {missing[0]!r} is missing; the model takes {_told(specs)}")
    return arrays


def _shape(tensor: Any, spec: TensorSpec, model: Model, where: str) -> tuple[int, ...]:
    """The tensor's shape once it is exactly (rows, *spec.shape) and rows are allowed."""
    if tensor.datatype != spec.datatype:
        raise InvalidInput(f"{where} is {tensor.datatype or 'untyped'}, expected {spec.datatype}")
    shape = tuple(tensor.shape)
    if len(shape) != len(spec.shape) + 1 or shape[1:] != spec.shape:
        raise InvalidInput(
            f"{where} has shape {list(shape)}, expected [rows, {_dims(spec.shape)}] with 1 to"
            f" {model.max_batch_size} rows"
        )
    if not 1 <= shape[0] <= model.max_batch_size:
        raise InvalidInput(
            f"{where} has {shape[0]} rows; model {model.name!r} takes 1 to"
            f" {model.max_batch_size} in one request"
        )
    return shape


def _check_tensor_parameters(tensor: Any, where: str) -> None:
    for name in tensor.parameters:
        if name in SHARED_MEMORY:
            raise InvalidInput(f"{where}: shared memory is not served; send the tensor itself")
        if name == "classification":
            raise InvalidInput(
                f"{where}: the classification extension is not served; ask for the output itself"
            )
        if name not in ("binary_data", "binary_data_size"):
            raise InvalidInput(f"{where}: unknown parameter {name!r}; there are none for tensors")


def _dims(shape: Sequence[int]) -> str:
    return ", ".join(str(size) for size in shape)


def _told(specs: dict[str, TensorSpec]) -> str:
    return ", ".join(f"{s.name} {s.datatype} [rows, {_dims(s.shape)}]" for s in specs.values())
