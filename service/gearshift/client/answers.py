"""Answers, and requests as they go out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from gearshift.client.tensors import Array, outputs, request


class Answer(Mapping[str, Array]):
    """The outputs by name, and who gave them. Times in seconds. All but `model` and `version` are
    None where the server does not say."""

    def __init__(self, response: pb.ModelInferResponse) -> None:
        self._outputs = outputs(response)
        told = {
            name: getattr(value, value.WhichOneof("parameter_choice"))
            for name, value in response.parameters.items()
            if value.WhichOneof("parameter_choice") is not None
        }
        self.model = str(response.model_name)
        self.version = str(response.model_version)
        self.id: str | None = response.id or None
        """By which its true outcome can be reported later."""
        self.variant: str | None = told.get("variant")
        self.accuracy: float | None = told.get("accuracy")
        self.service_class: str | None = told.get("service_class")
        self.reason: str | None = told.get("reason")
        self.cascade: str | None = told.get("cascade")
        self.queued = _seconds(told.get("queue_us"))
        self.computed = _seconds(told.get("compute_us"))
        self.budget = _seconds(told.get("budget_us"))
        self.batch_size: int | None = told.get("batch_size")

    def __getitem__(self, name: str) -> Array:
        return self._outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in self.items())
        return f"<Answer of {self.model} by {self.variant or self.version}: {shapes}>"


def _seconds(microseconds: Any) -> float | None:
    return None if microseconds is None else microseconds / 1e6


class InferOptions(TypedDict, total=False):
    """What may be said of a request, all of it optional."""

    budget: float | None
    """Seconds for all of it: tries, waits and network included."""
    floor: float | None
    """No variant below this accuracy answers."""
    service_class: str | None
    variant: str | None
    """Pins one, by name."""
    version: str | int
    """Pins one, by number."""
    outputs: Sequence[str]
    """Which outputs; all if none is named."""
    request_id: str
    parameters: Mapping[str, bool | int | float | str]
    """Others that the server knows."""


def infer_request(
    model: str, inputs: Mapping[str, Any], options: InferOptions
) -> pb.ModelInferRequest:
    """Without its budget, which is another with each try. ValueError for a floor that is none."""
    arrays = {name: _array(each) for name, each in inputs.items()}
    made = request(model, str(options.get("version", "")), arrays)
    made.id = options.get("request_id", "")
    for name in options.get("outputs", ()):
        made.outputs.add(name=name)
    floor = options.get("floor")
    if floor is not None:
        if not math.isfinite(floor):
            raise ValueError(f"floor must be a finite number, got {floor}")
        made.parameters["min_accuracy"].double_param = floor
    for named in ("service_class", "variant"):
        text = options.get(named)
        if isinstance(text, str):
            made.parameters[named].string_param = text
    for name, value in options.get("parameters", {}).items():
        if isinstance(value, bool):
            made.parameters[name].bool_param = value
        elif isinstance(value, int):
            made.parameters[name].int64_param = value
        elif isinstance(value, float):
            made.parameters[name].double_param = value
        else:
            made.parameters[name].string_param = value
    return made


def _array(value: Any) -> Array:
    """Texts become bytes."""
    array = np.asarray(value)
    if array.dtype.kind == "U":
        return np.char.encode(array, "utf-8").astype(object)
    return array.astype(object) if array.dtype.kind == "S" else array
