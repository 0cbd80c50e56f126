"""The three models that every server serves, made on the spot: layouts with random weights.

What an answer means does not matter here, what it costs does. `tiny` takes microseconds, `mid`
about a millisecond a row, `big` some 30 ms (ResNet-50's layout at 128 x 128, its batch
normalisations already folded into the convolutions, as every export does).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import service_pb2 as pb

INPUT, OUTPUT = "x", "y"

Rows = npt.NDArray[np.float32]


@dataclass(slots=True)
class Graph:
    """Nodes in order, each reading what came before; weights of a fixed seed."""

    random: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def weight(self, shape: tuple[int, ...], fan_in: int, gain: float = 2.0) -> str:
        """Scaled so that values neither vanish nor explode on their way."""
        name = f"w{len(self.weights)}"
        values = self.random.standard_normal(shape) * np.sqrt(gain / fan_in)
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: object) -> str:
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def dense(self, x: str, inputs: int, outputs: int, output: str = "") -> str:
        weight = self.weight((inputs, outputs), inputs)
        return self.add("Gemm", x, weight, self.weight((outputs,), 100), output=output)

    def convolution(
        self, x: str, inputs: int, outputs: int, size: int, stride: int = 1, gain: float = 2.0
    ) -> str:
        weight = self.weight((outputs, inputs, size, size), inputs * size * size, gain)
        bias = self.weight((outputs,), 100)
        pads = [size // 2] * 4
        return self.add("Conv", x, weight, bias, pads=pads, strides=[stride, stride])

    def relu(self, x: str) -> str:
        return self.add("Relu", x)

    def classes(self, x: str, channels: int, outputs: int) -> None:
        """The mean over each picture, then one dense layer: the answer."""
        pooled = self.add("Flatten", self.add("GlobalAveragePool", x))
        self.dense(pooled, channels, outputs, output=OUTPUT)


def tiny(graph: Graph) -> None:
    hidden = graph.relu(graph.dense(INPUT, 30, 64))
    graph.dense(graph.relu(graph.dense(hidden, 64, 32)), 32, 1, output=OUTPUT)


def mid(graph: Graph) -> None:
    x = graph.relu(graph.convolution(INPUT, 3, 32, 3))
    x = graph.relu(graph.convolution(x, 32, 64, 3, stride=2))
    for _ in range(3):
        x = graph.relu(graph.convolution(x, 64, 64, 3))
    x = graph.relu(graph.convolution(x, 64, 128, 3, stride=2))
    for _ in range(2):
        x = graph.relu(graph.convolution(x, 128, 128, 3))
    graph.classes(x, 128, 10)


def big(graph: Graph, narrowest: int = 64, picture: str = INPUT) -> None:
    """`picture` is what it looks at, (n, 3, height, width)."""
    x = graph.relu(graph.convolution(picture, 3, narrowest, 7, stride=2))
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
    channels = narrowest
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = narrowest * 2**stage
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            shortcut = x
            if block == 0:
                shortcut = graph.convolution(x, channels, 4 * width, 1, stride, gain=1.0)
            y = graph.relu(graph.convolution(x, channels, width, 1))
            y = graph.relu(graph.convolution(y, width, width, 3, stride))
            # A small gain: 16 blocks add to one another.
            y = graph.convolution(y, width, 4 * width, 1, gain=0.1)
            x = graph.relu(graph.add("Add", y, shortcut))
            channels = 4 * width
    graph.classes(x, channels, 1000)


@dataclass(frozen=True, slots=True)
class Model:
    """`max_batch` is what servers that batch are allowed to put together."""

    name: str
    layout: Callable[[Graph], None]
    shape: tuple[int, ...]
    outputs: int
    max_batch: int


TINY = Model("tiny", tiny, (30,), 1, 64)
MID = Model("mid", mid, (3, 32, 32), 10, 32)
BIG = Model("big", big, (3, 128, 128), 1000, 8)
MODELS = (TINY, MID, BIG)


# What gearshift may answer with where it is given several variants: a half and a quarter as wide.
NARROWER = (
    Model("big-half", partial(big, narrowest=32), BIG.shape, BIG.outputs, BIG.max_batch),
    Model("big-quarter", partial(big, narrowest=16), BIG.shape, BIG.outputs, BIG.max_batch),
)


def rows_of(model: Model, count: int = 1, seed: int = 1) -> Rows:
    return np.random.default_rng(seed).standard_normal((count, *model.shape), dtype=np.float32)


def request_of(model: Model, rows: Rows) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name=model.name)
    message.inputs.add(name=INPUT, datatype="FP32", shape=rows.shape)
    message.raw_input_contents.append(rows.tobytes())
    return message


def answer_of(model: Model, values: Rows) -> pb.ModelInferResponse:
    message = pb.ModelInferResponse(model_name=model.name, model_version="1")
    message.outputs.add(name=OUTPUT, datatype="FP32", shape=values.shape)
    message.raw_output_contents.append(values.tobytes())
    return message


def write_artifact(model: Model, path: Path) -> None:
    graph = Graph(np.random.default_rng(0))
    model.layout(graph)
    shapes = {INPUT: ["n", *model.shape], OUTPUT: ["n", model.outputs]}
    told = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    }
    made = helper.make_model(
        helper.make_graph(
            graph.nodes, model.name, [told[INPUT]], [told[OUTPUT]], initializer=graph.weights
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.checker.check_model(made)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(made, path)


@dataclass(frozen=True, slots=True)
class Files:
    """Where a model's artifact lies, and what the client sends and expects."""

    model: Model
    folder: Path
    variants: tuple[Files, ...] = ()
    """Others that may answer in its place."""

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def right(self) -> tuple[Path, ...]:
        return (self.expected, *(variant.expected for variant in self.variants))

    @property
    def artifact(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def request(self) -> Path:
        return self.folder / "request.bin"

    @property
    def expected(self) -> Path:
        return self.folder / "expected.f32"

    @property
    def answer(self) -> Path:
        return self.folder / "answer.bin"


def make(model: Model, folder: Path) -> Files:
    """The model's files under `folder`, made unless they are there."""
    files = Files(model, folder / model.name)
    if not files.answer.exists():
        write_artifact(model, files.artifact)
        rows = rows_of(model)
        session = ort.InferenceSession(files.artifact, providers=["CPUExecutionProvider"])
        (values,) = session.run([OUTPUT], {INPUT: rows})
        if not np.isfinite(values).all():
            raise ValueError(f"{model.name}: its answer is not finite")
        files.request.write_bytes(request_of(model, rows).SerializeToString())
        files.expected.write_bytes(values.tobytes())
        # Last: its presence says that all are there.
        files.answer.write_bytes(answer_of(model, values).SerializeToString())
    return files
