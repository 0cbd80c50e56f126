"""From an artifact to something that can be called: a program of `torch.export`."""

from __future__ import annotations

import io
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gearshift.artifacts import checked_program
from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Model, Signature, TensorSpec

DATATYPES = {
    torch.bool: "BOOL",
    torch.uint8: "UINT8",
    torch.uint16: "UINT16",
    torch.uint32: "UINT32",
    torch.uint64: "UINT64",
    torch.int8: "INT8",
    torch.int16: "INT16",
    torch.int32: "INT32",
    torch.int64: "INT64",
    torch.float16: "FP16",
    torch.bfloat16: "BF16",
    torch.float32: "FP32",
    torch.float64: "FP64",
}
"""PyTorch's types and the Open Inference Protocol's datatypes."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program, how it is called, and for how many rows it was exported, at the least and at the
    most. `inputs` are those that it takes by position, and then those by name."""

    exported: Any
    signature: Signature
    positional: Sequence[str]
    named: Mapping[str, str]
    """From the parameter to the name of the tensor."""
    outputs: Sequence[str]
    least: int
    most: float

    def check(self, model: Model) -> None:
        """ValueError if the model's batches are others than those that it was exported for."""
        if self.least > 1 or self.most < model.max_batch_size:
            raise ValueError(
                f"it was exported for {self.least} to {self.most:g} rows, and batches of this model"
                f" have 1 to {model.max_batch_size}; export it with"
                f" torch.export.Dim('batch', min=1, max={model.max_batch_size})"
            )

    @property
    def size(self) -> int:
        """Bytes of its parameters, buffers and constants."""
        held = [*self.exported.state_dict.values(), *self.exported.constants.values()]
        tensors = {id(each): each for each in held if isinstance(each, torch.Tensor)}
        return sum(each.numel() * each.element_size() for each in tensors.values())

    def module(self, device: str) -> Any:
        """What is called, with all that belongs to it on `device`."""
        exported = self.exported
        if device != "cpu":
            from torch.export.passes import move_to_device_pass

            exported = move_to_device_pass(exported, device)
        # Shapes are checked before anything gets here.
        module = exported.module(check_guards=False)
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        return module

    def call(self, module: Any, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Its outputs by name. BF16 comes and goes as float32, which numpy has."""
        halves = [spec.name for spec in self.signature.inputs if spec.datatype == "BF16"]
        if halves:
            tensors = {**tensors, **{name: tensors[name].bfloat16() for name in halves}}
        found = module(
            *[tensors[name] for name in self.positional],
            **{parameter: tensors[name] for parameter, name in self.named.items()},
        )
        if not isinstance(found, Mapping):
            several = found if isinstance(found, tuple | list) else [found]
            found = dict(zip(self.outputs, several, strict=True))
        return {
            name: found[name].float() if found[name].dtype == torch.bfloat16 else found[name]
            for name in self.outputs
        }


def read_program(artifact: Artifact) -> Program:
    """ValueError with a sentence if it cannot be served."""
    checked = checked_program(artifact.content)
    try:
        # What is anything else than tensors would be unpickled by `torch.export.load`.
        torch.load(io.BytesIO(checked.samples), weights_only=True)
    except Exception as error:  # the unpickler's errors share no base
        raise ValueError(
            "its sample inputs hold more than tensors; export it with tensors as its inputs"
        ) from error
    try:
        exported = torch.export.load(io.BytesIO(artifact.content))
    except Exception as error:  # nor do PyTorch's
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"PyTorch cannot load it: {reason}") from error
    return _read(exported)


def _read(exported: Any) -> Program:
    signature = exported.graph_signature
    if signature.buffers_to_mutate or _writes_to_its_own(exported):
        raise ValueError(
            "it changes its own buffers or parameters, so that an answer would depend on those"
            " before it; export it in evaluation mode, without state"
        )
    arguments, keywords = exported.call_spec.in_spec.children()
    taken = list(signature.user_inputs)
    names = [*arguments.children(), *keywords.children()]
    if not all(each.is_leaf() for each in names) or len(names) != len(taken):
        raise ValueError("it takes tuples, lists or dictionaries; let it take tensors only")
    positional = taken[: arguments.num_children]
    parameters = list(keywords.context or ())
    named = dict(zip(parameters, taken[arguments.num_children :], strict=True))
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
    given = _output_names(exported.call_spec.out_spec)
    told = list(signature.user_outputs)
    if len(given) != len(told):
        raise ValueError("it gives something else than tensors; let it give tensors only")
    inputs = [(name, values.get(name)) for name in taken]
    outputs = [(name, values.get(node)) for name, node in zip(given, told, strict=True)]
    least, most = _batches(exported, [value for _, value in (*inputs, *outputs)])
    return Program(
        exported,
        Signature(
            tuple(_spec(name, value, "input") for name, value in inputs),
            tuple(_spec(name, value, "output") for name, value in outputs),
        ),
        positional,
        named,
        given,
        least,
        most,
    )


def _writes_to_its_own(exported: Any) -> bool:
    """Whether something in it writes to what belongs to the program: operators may work in place,
    on a tensor or on a view of one."""
    taken = set(exported.graph_signature.user_inputs)
    own: set[Any] = set()
    for node in exported.graph.nodes:
        if node.op == "placeholder" and node.name not in taken:
            own.add(node)
        if node.op != "call_function" or own.isdisjoint(node.all_input_nodes):
            continue
        if node.target is operator.getitem:
            own.add(node)
        schema = getattr(node.target, "_schema", None)
        for argument in () if schema is None else schema.arguments:
            if argument.alias_info is None or own.isdisjoint(_given(node, schema, argument)):
                continue
            if argument.alias_info.is_write:
                return True
            own.add(node)
    return False


def _given(node: Any, schema: Any, argument: Any) -> Sequence[Any]:
    """What a call gives for an argument."""
    place = schema.arguments.index(argument)
    found = node.args[place] if place < len(node.args) else node.kwargs.get(argument.name)
    return found if isinstance(found, list | tuple) else [found]


def _output_names(spec: Any) -> list[str]:
    """Those of a dictionary; else `output`, or `output_0` and so on for a tuple."""
    if spec.is_leaf():
        return ["output"]
    if not all(child.is_leaf() for child in spec.children()):
        raise ValueError("it gives nested outputs; let it give a tensor, a tuple or a dictionary")
    if spec.type is dict:
        return [str(key) for key in spec.context]
    return [f"output_{index}" for index in range(spec.num_children)]


def _spec(name: str, value: Any, role: str) -> TensorSpec:
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"{role} {name!r} is no tensor")
    datatype = DATATYPES.get(value.dtype)
    if datatype is None:
        raise ValueError(
            f"{role} {name!r} has type {value.dtype}; served are"
            f" {', '.join(sorted(DATATYPES.values()))}: let the model convert it"
        )
    shape = tuple(value.shape)
    if not shape or isinstance(shape[0], int):
        raise ValueError(
            f"{role} {name!r} has shape {_told(shape)}; its first dimension must be a dynamic batch"
            " dimension (export it with dynamic_shapes that give it torch.export.Dim)"
        )
    for index, size in enumerate(shape[1:], start=1):
        if not isinstance(size, int):
            raise ValueError(
                f"{role} {name!r} has shape {_told(shape)}; dimension {index} must be a fixed"
                " number (only the batch dimension may vary)"
            )
    return TensorSpec(name, datatype, shape[1:])


def _told(shape: Sequence[object]) -> list[str]:
    return [str(size) for size in shape]


def _batches(exported: Any, values: Sequence[Any]) -> tuple[int, float]:
    """For how many rows it was exported. ValueError if tensors differ in that."""
    rows = {str(v.shape[0]): v.shape[0] for v in values if isinstance(v, torch.Tensor) and v.shape}
    if len(rows) > 1:
        raise ValueError(
            f"its tensors have different numbers of rows ({', '.join(rows)}); give the first"
            " dimension of all of them the same torch.export.Dim"
        )
    for size in rows.values():
        if not isinstance(size, int):
            found = exported.range_constraints.get(size.node.expr)
            if found is None:
                return 1, math.inf
            most = math.inf if str(found.upper) in ("oo", "int_oo") else int(found.upper)
            return max(1, int(found.lower)), most
    return 1, math.inf
