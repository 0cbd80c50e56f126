"""The kinds of steps, each from its settings and what came before to a variant.

What needs PyTorch is in `training_steps`, loaded when a recipe has such a step: an ONNX file is
quantized without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gearshift.compress import conversion, edge, graph_file, optimizing, quantization
from gearshift.compress.evaluate import predict
from gearshift.compress.functions import resolve
from gearshift.compress.made import Made, StepError, Workshop, network_of
from gearshift.compress.metrics import score, shown
from gearshift.compress.recipe import Call, Convert, Edge, Import, Optimize, Prune, Quantize, Train

if TYPE_CHECKING:
    from torch import nn

QUANTIZER = ("onnx", "onnxruntime")


def run(step: Any, shop: Workshop) -> Made:
    """Do one step."""
    made: Made = _RUNS[step.kind](step, shop)
    return made


def factory(step: Any, shop: Workshop) -> Callable[[], nn.Module] | None:
    """What makes the layout of the network behind a step's artifact, if there is one."""
    if step.kind == "import" and step.network is not None:
        function = resolve(step.network, shop.folder)
        return lambda: function(shop.cache, shop.report, **step.options)
    if step.kind == "train":
        function = resolve(step.network, shop.folder)
        return lambda: function(**step.options)
    if step.kind == "prune":
        return shop.made[step.of].factory
    if step.kind == "call" and step.layout is not None:
        function = resolve(step.layout, shop.folder)
        return lambda: function(shop, **step.options)
    return None


def _import(step: Import, shop: Workshop) -> Made:
    if step.onnx is not None:
        content = (shop.folder / step.onnx).read_bytes()
        return Made(
            artifact=content,
            parameters=graph_file.count_parameters(content),
            about=f"{step.onnx.name} as given",
            tools=("onnx",),
        )
    made: Made = _training().given(_made_by(step, shop)(), _made_by(step, shop), shop)
    return made


def _train(step: Train, shop: Workshop) -> Made:
    made: Made = _training().train(step, _made_by(step, shop), shop)
    return made


def _prune(step: Prune, shop: Workshop) -> Made:
    made: Made = _training().prune(step, shop)
    return made


def _training() -> Any:
    return import_module("gearshift.compress.training_steps")


def _made_by(step: Any, shop: Workshop) -> Callable[[], nn.Module]:
    make = factory(step, shop)
    assert make is not None
    return make


def _quantize(step: Quantize, shop: Workshop) -> Made:
    source = shop.made[step.of]
    calibration = shop.data.calibration
    if step.method == "dynamic":
        found = quantization.dynamic(source.artifact, per_channel=step.per_channel, keep=step.keep)
        about = f"{step.of}, dynamic int8 (weights{_per_channel(step)})"
        return Made(
            artifact=found.content,
            parameters=source.parameters,
            about=about,
            tools=QUANTIZER,
        )

    def value(content: bytes) -> float:
        return score(shop.metric, calibration.labels, predict(content, calibration.inputs))

    goal = value(source.artifact)
    tried: dict[str, Any] = {}
    best: tuple[float, quantization.Quantized, str] | None = None
    method: str
    for method in step.calibration:
        found = quantization.static(
            source.artifact,
            calibration.rows(slice(0, step.rows)),
            method=method,
            per_channel=step.per_channel,
            keep=step.keep,
            tolerance=step.tolerance,
            most_left=step.most_left,
            score=value,
            goal=goal,
            report=shop.report,
        )
        reached = value(found.content)
        shop.report(f"{method}: {shown(shop.metric)} {reached:.4f}, float32 {goal:.4f}")
        tried[method] = {"calibration": reached, "left": list(found.left)}
        # A tie goes to the method with fewer layers left, then to the one named first.
        if best is None or (reached, -len(found.left)) > (best[0], -len(best[1].left)):
            best = (reached, found, method)
    assert best is not None
    _, chosen, method = best
    left = f", {len(chosen.left)} layers in float" if chosen.left else ""
    about = f"{step.of}, static int8 (QDQ, {method}{_per_channel(step)}{left})"
    return Made(
        artifact=chosen.content,
        parameters=source.parameters,
        about=about,
        tools=QUANTIZER,
        figures={"float_on_calibration": goal, "chosen": method, "calibrations": tried},
    )


def _convert(step: Convert, shop: Workshop) -> Made:
    source = shop.made[step.of]
    half = step.to == "fp16"
    convert = conversion.to_fp16 if half else conversion.to_bf16_weights
    kind = "float16" if half else "weights in bfloat16, arithmetic in float32"
    return Made(
        artifact=convert(source.artifact),
        parameters=source.parameters,
        about=f"{step.of}, {kind}",
        tools=QUANTIZER,
    )


def _optimize(step: Optimize, shop: Workshop) -> Made:
    source = shop.made[step.of]
    content, figures = optimizing.optimized(source.artifact, shop.data.training, step.tolerance)
    return Made(
        artifact=content,
        parameters=graph_file.count_parameters(content),
        about=f"{step.of}, graph optimized",
        tools=("onnx", "onnxslim", "onnxruntime"),
        figures=figures,
    )


def _edge(step: Edge, shop: Workshop) -> Made:
    source = shop.made[step.of]
    if step.runtime == "ort":
        content, tools = edge.to_ort(source.artifact), QUANTIZER
    else:
        net = network_of(step.of, shop)
        content = edge.to_litert(net, shop.data.training, shop.output.activation)
        tools = ("torch", "litert-torch")
    return Made(
        artifact=content,
        parameters=source.parameters,
        about=f"{step.of} for phones ({step.runtime})",
        tools=tools,
        figures={"runtime": step.runtime},
    )


def _call(step: Call, shop: Workshop) -> Made:
    made = resolve(step.function, shop.folder)(shop, **step.options)
    if not isinstance(made, Made):
        raise StepError(
            f"{step.function} gave {type(made).__name__}; expected gearshift.compress.made.Made"
        )
    return replace(made, factory=factory(step, shop))


_RUNS: dict[str, Callable[[Any, Workshop], Made]] = {
    "import": _import,
    "train": _train,
    "prune": _prune,
    "quantize": _quantize,
    "convert": _convert,
    "optimize": _optimize,
    "edge": _edge,
    "call": _call,
}


def _per_channel(step: Quantize) -> str:
    return ", per channel" if step.per_channel else ", per tensor"
