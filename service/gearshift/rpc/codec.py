"""From protobuf to the engine: requests decoded and checked.

Functions of their arguments and of the shared memory that a tensor may lie in. Every mistake in
a request is InvalidInput with the tensor's name and what would be right; the model's signature is
the only measure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gearshift.core.catalog import Model, TensorSpec
from gearshift.core.request import Parameter, Request
from gearshift.errors import InvalidInput
from gearshift.ports import Array, Tensors
from gearshift.rpc.classes import MOST, Top, Wanted
from gearshift.rpc.datatypes import DATATYPES, from_raw, from_typed, raw_size
from gearshift.rpc.shared_memory import BYTE_SIZE, PARAMETERS, Place, SharedMemory


def decode(
    message: Any, model: Model, remaining: float, memory: SharedMemory
) -> tuple[Request, Tensors, Mapping[str, Place]]:
    """A ModelInferRequest as a Request, its tensors, each (rows, *shape), and the places of the
    outputs that are wanted in shared memory.

    `remaining` is the caller's gRPC deadline in seconds from arrival, inf without one.
    """
    inputs = _inputs(message, model, memory)
    rows = len(next(iter(inputs.values())))
    places = _places(message, model, rows, memory)
    request = Request(
        model=model.name,
        rows=rows,
        version=message.model_version,
        parameters=parameters_of(message),
        remaining=remaining,
    )
    return request, inputs, places


def parameters_of(message: Any) -> dict[str, Parameter]:
    """The request's parameters as Python values."""
    values: dict[str, Parameter] = {}
    for name, parameter in message.parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidInput(f"parameter {name} has no value")
        values[name] = getattr(parameter, choice)
    return values


def wanted_of(message: Any, model: Model, rows: int) -> tuple[Wanted, ...]:
    """What is asked for, in that order; nothing in particular where it does not say. InvalidInput
    for classes of what has none."""
    specs = {spec.name: spec for spec in model.wire.outputs}
    return tuple(
        _top(output, specs[output.name], rows)
        if "classification" in output.parameters
        else output.name
        for output in message.outputs
    )


def _top(output: Any, spec: TensorSpec, rows: int) -> Top:
    where = f"output {output.name!r}"
    count = output.parameters["classification"].int64_param
    if count < 1:
        raise InvalidInput(f"{where}: classification must be a whole number from 1, got {count}")
    if spec.datatype in ("BYTES", "BOOL"):
        raise InvalidInput(f"{where} is {spec.datatype}, and classes are the largest of numbers")
    count = min(count, math.prod(spec.shape))
    if count * rows > MOST:
        raise InvalidInput(
            f"{where}: {count} classes of {rows} rows are more than {MOST}, the most in an answer;"
            " ask for fewer, or for the output itself"
        )
    return Top(output.name, count)


def _places(message: Any, model: Model, rows: int, memory: SharedMemory) -> Mapping[str, Place]:
    """Only outputs that the model has, each once; of those in shared memory, where."""
    specs = {spec.name: spec for spec in model.wire.outputs}
    seen = set()
    places: dict[str, Place] = {}
    for output in message.outputs:
        spec = specs.get(output.name)
        if spec is None:
            raise InvalidInput(
                f"model {model.name!r} has no output {output.name!r}; it has {', '.join(specs)}"
            )
        if output.name in seen:
            raise InvalidInput(f"output {output.name!r} is requested twice")
        seen.add(output.name)
        if not output.parameters:
            continue
        place = _place(output, f"output {output.name!r}", memory)
        if place is None:
            continue
        places[output.name] = place
        # Now, not after a run for nothing; how long BYTES are shows only then.
        needed = raw_size(DATATYPES[spec.datatype], (rows, *spec.shape))
        if needed is not None and place.byte_size < needed:
            raise InvalidInput(
                f"{place.where}: {BYTE_SIZE} is {place.byte_size}, but {rows} rows of"
                f" {spec.datatype} [{_dims(spec.shape)}] take {needed}"
            )
    return places


def _inputs(message: Any, model: Model, memory: SharedMemory) -> Tensors:
    wanted = model.expects({tensor.name for tensor in message.inputs})
    specs = {spec.name: spec for spec in wanted}
    if not message.inputs:
        told = _told({spec.name: spec for spec in model.wire.inputs})
        raise InvalidInput(f"the request has no inputs; model {model.name!r} takes {told}")
    places = [
        _place(tensor, f"input {tensor.name!r}", memory) if tensor.parameters else None
        for tensor in message.inputs
    ]
    raw = message.raw_input_contents
    sent = places.count(None)
    if raw and len(raw) != sent:
        raise InvalidInput(
            f"{len(raw)} raw_input_contents for {sent} inputs; there must be one for each that is"
            f" not in shared memory, in the same order"
        )
    unread = iter(raw)
    arrays: dict[str, Array] = {}
    rows: int | None = None
    for tensor, place in zip(message.inputs, places, strict=True):
        spec = specs.get(tensor.name)
        if spec is None:
            raise InvalidInput(
                f"model {model.name!r} has no input {tensor.name!r}{_beside(model, specs)}; it"
                f" takes {_told(specs)}"
            )
        where = f"input {tensor.name!r}"
        if tensor.name in arrays:
            raise InvalidInput(f"{where} is given twice")
        shape = _shape(tensor, spec, model, where)
        if rows is not None and shape[0] != rows:
            raise InvalidInput(f"{where} has {shape[0]} rows, the input before it {rows}")
        rows = shape[0]
        datatype = DATATYPES[spec.datatype]
        if place is not None:
            expected = raw_size(datatype, shape)
            if tensor.HasField("contents") and tensor.contents.ByteSize():
                raise InvalidInput(
                    f"{where} has contents beside shared memory; give one of the two"
                )
            if expected not in (None, place.byte_size):
                raise InvalidInput(
                    f"{where}: {BYTE_SIZE} is {place.byte_size}, but shape {list(shape)} of"
                    f" {datatype.name} takes {expected}"
                )
            arrays[tensor.name] = from_raw(place.read(), datatype, shape, where)
        elif raw:
            if tensor.HasField("contents") and tensor.contents.ByteSize():
                raise InvalidInput(
                    f"{where} has contents beside raw_input_contents; give one of the two"
                )
            arrays[tensor.name] = from_raw(next(unread), datatype, shape, where)
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


def _place(tensor: Any, where: str, memory: SharedMemory) -> Place | None:
    """Where in shared memory a tensor lies, if it does; refuses extensions that are not served."""
    for name in tensor.parameters:
        if name == "classification" and where.startswith("output"):
            if len(tensor.parameters) > 1 and "shared_memory_region" in tensor.parameters:
                raise InvalidInput(
                    f"{where}: classes are not put into shared memory; ask for one of the two"
                )
            continue
        if name not in ("binary_data", "binary_data_size", *PARAMETERS):
            raise InvalidInput(
                f"{where}: unknown parameter {name!r}; those of tensors are {', '.join(PARAMETERS)}"
            )
    return memory.place(tensor.parameters, where)


def _beside(model: Model, specs: Mapping[str, TensorSpec]) -> str:
    """What must be said of a model that takes other inputs, too, which are not mixed with these."""
    if not model.before:
        return ""
    other = model.signature.inputs if model.wire.inputs[0].name in specs else model.wire.inputs
    names = ", ".join(spec.name for spec in other)
    return f" beside {next(iter(specs))!r} (alone, it takes {names} as well)"


def _dims(shape: Sequence[int]) -> str:
    return ", ".join(str(size) for size in shape)


def _told(specs: dict[str, TensorSpec]) -> str:
    return ", ".join(f"{s.name} {s.datatype} [rows, {_dims(s.shape)}]" for s in specs.values())
