"""The models that both servers serve, and what they compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from conformance.cases import DATATYPES
from gearshift.core.catalog import Model, ServiceClass, Signature, TensorSpec, Variant
from gearshift.executors.fake import FakeExecutor
from gearshift.ports import Tensors

SLOW = 0.5
"""Seconds of a run of `slow`."""


CLASSES = (ServiceClass("default"),)
LEVELS = (ServiceClass("default", priority=2), ServiceClass("urgent", priority=1))


@dataclass(frozen=True, slots=True)
class Shape:
    """One input `x`, these outputs, so many versions."""

    datatype: str
    width: int
    outputs: Mapping[str, int]
    versions: int = 1


SHAPES = {
    "sum": Shape("FP32", 3, {"y": 1}, versions=2),
    "two": Shape("FP32", 3, {"y": 1, "z": 1}),
    "slow": Shape("FP32", 3, {"y": 1}),
    "levels": Shape("FP32", 3, {"y": 1}),
    "wide": Shape("FP32", 524_288, {"y": 1}),
    **{datatype: Shape(datatype, 3, {"y": 3}) for datatype in DATATYPES},
}


def models() -> tuple[Model, ...]:
    """As gearshift's catalog has them."""
    return tuple(_model(name, shape) for name, shape in SHAPES.items())


def _model(name: str, shape: Shape) -> Model:
    variants = [
        Variant(
            name=f"{name}-{version}",
            version=version,
            executor="fake",
            accuracy=0.8 + version / 100,
            source="declared",
            artifact="",
        )
        for version in range(1, shape.versions + 1)
    ]
    signature = Signature(
        (TensorSpec("x", shape.datatype, (shape.width,)),),
        tuple(TensorSpec(out, shape.datatype, (width,)) for out, width in shape.outputs.items()),
    )
    return Model(
        name=name,
        metric="top1",
        max_batch_size=8,
        signature=signature,
        classes={each.name: each for each in (LEVELS if name == "levels" else CLASSES)},
        default_class="default",
        variants=tuple(sorted(variants, key=lambda variant: -variant.accuracy)),
    )


class Computing(FakeExecutor):
    """Sums of rows, or what came in."""

    def run_here(self, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        rows = inputs["x"]
        if model.name in DATATYPES:
            return {"y": rows}
        total = rows.sum(axis=1, keepdims=True, dtype=np.float32)
        return {spec.name: total for spec in model.signature.outputs}


TRITON_TYPES = {"BYTES": "STRING"}


def triton_config(name: str) -> str:
    """The config.pbtxt of a model in Triton's Python backend."""
    shape = SHAPES[name]
    datatype = f"TYPE_{TRITON_TYPES.get(shape.datatype, shape.datatype)}"
    outputs = ", ".join(
        f'{{ name: "{out}" data_type: {datatype} dims: [ {width} ] }}'
        for out, width in shape.outputs.items()
    )
    return f"""\
name: "{name}"
backend: "python"
max_batch_size: 8
input [ {{ name: "x" data_type: {datatype} dims: [ {shape.width} ] }} ]
output [ {outputs} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
version_policy: {{ all {{ }} }}
{"dynamic_batching { priority_levels: 2 default_priority_level: 2 }" * (name == "levels")}
"""


TRITON_MODEL = """\
import sys
import time

sys.path.insert(0, {site!r})

import json
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.name = config["name"]
        self.outputs = [each["name"] for each in config["output"]]

    def execute(self, requests):
        answers = []
        for each in requests:
            given = pb_utils.get_input_tensor_by_name(each, "x")
            if self.name == "BF16":
                # numpy has none.
                same = pb_utils.Tensor.from_dlpack("y", given.to_dlpack())
                answers.append(pb_utils.InferenceResponse([same]))
                continue
            rows = given.as_numpy()
            if self.name == "slow":
                time.sleep({slow})
            if self.name in ("sum", "two", "slow", "wide", "levels"):
                rows = rows.sum(axis=1, keepdims=True, dtype=np.float32)
            wanted = each.requested_output_names()
            answers.append(
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor(name, rows) for name in self.outputs if name in wanted]
                )
            )
        return answers
"""
