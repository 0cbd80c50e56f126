"""The training and exporting behind `batch_normalization`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from gearshift.compress.dataset import Part
from gearshift.compress.export import OPSET, TOLERANCE, to_onnx
from gearshift.compress.families.garment import INPUT
from gearshift.compress.families.garment_nets import convolutions
from gearshift.compress.graph_file import cleaned, require_equal
from gearshift.compress.learning import LossError, Task, fit
from gearshift.compress.made import Report
from gearshift.compress.metrics import score
from gearshift.compress.networks import Answering
from gearshift.compress.recipe import Learning
from gearshift.compress.studies.batch_normalization import (
    FOLDED,
    KEPT,
    RAW,
    SERVED,
    WITH,
    WITHOUT,
    BatchNormalization,
    Folding,
    Run,
)
from gearshift.compress.studies.figures import Spread, in_turns

Layers = Sequence[tuple[int, int, int]]
BATCHES = (1, 64)
FUSION = "ConvBNFusion"
"""What ONNX Runtime folds a normalization by."""
OUTPUT = "probabilities"


def run(
    training: Part,
    evaluation: Part,
    layers: Layers,
    report: Report,
    *,
    rates: Sequence[float],
    seeds: Sequence[int],
    epochs: int,
    batch: int,
    served: Mapping[str, Layers],
    rounds: int,
) -> BatchNormalization:
    """Train at every rate and seed, with and without; export and time the layouts `served`."""
    torch.set_num_threads(1)
    runs = []
    for rate in rates:
        schedule = Learning(epochs=epochs, rate=rate, batch=batch)
        for seed in seeds:
            for norms in (WITH, WITHOUT):
                report(f"{norms} normalization, rate {rate:g}, seed {seed}")
                curve = _curve(layers, norms, training, evaluation, schedule, seed)
                runs.append(Run(norms=norms, rate=rate, seed=seed, curve=curve))
    folded = [_fold(name, chosen, evaluation, rounds, report) for name, chosen in served.items()]
    return BatchNormalization(runs, epochs, len(training), len(evaluation), folded)


def without_norms(net: nn.Module) -> nn.Module:
    """The same layout with a bias in every convolution in place of its normalization."""
    for module in net.modules():
        if isinstance(module, nn.Sequential) and len(module) > 1:
            convolution, norm = module[0], module[1]
            if isinstance(norm, nn.BatchNorm2d) and isinstance(convolution, nn.Conv2d):
                convolution.bias = nn.Parameter(torch.zeros(convolution.out_channels))
                module[1] = nn.Identity()
    return net


def _curve(
    layers: Layers, norms: str, training: Part, evaluation: Part, schedule: Learning, seed: int
) -> list[float]:
    torch.manual_seed(seed)
    net = convolutions(layers)
    if norms == WITHOUT:
        net = without_norms(net)
    curve: list[float] = []

    def after_each_epoch(line: str) -> None:
        curve.append(_top1(net, evaluation))
        net.train()

    pixels, labels = torch.from_numpy(training.inputs[INPUT]), torch.from_numpy(training.labels)
    task = Task(activation="softmax")
    try:
        fit(net, (pixels,), labels, schedule, task, seed=seed, report=after_each_epoch)
    except LossError:
        return []
    return curve


def _top1(net: nn.Module, part: Part) -> float:
    net.eval()
    with torch.no_grad():
        pixels = torch.from_numpy(part.inputs[INPUT])
        outputs = torch.cat([net(some) for some in pixels.split(256)])
    return score("top1", part.labels, outputs.numpy())


def _fold(name: str, layers: Layers, rows: Part, rounds: int, report: Report) -> Folding:
    report(f"folding: {name}")
    torch.manual_seed(0)
    net = convolutions(layers).train()
    pixels = torch.from_numpy(rows.inputs[INPUT][:256])
    with torch.no_grad():
        for some in pixels.split(64):  # Running figures that are not those of a fresh network.
            net(some)
    net.eval()
    raw = with_operators(net, pixels)
    kept = _constants_folded(raw)
    folded = to_onnx(net, rows, activation="softmax", output=OUTPUT)
    forms = {
        RAW: _session(raw, fold=True),
        KEPT: _session(kept, fold=False),
        SERVED: _session(kept, fold=True),
        FOLDED: _session(folded, fold=True),
    }
    feed = {INPUT: rows.inputs[INPUT][:64]}
    answers = {form: runtime.run(None, feed)[0] for form, runtime in forms.items()}
    difference = max(
        require_equal(answers[FOLDED], answers[form], TOLERANCE, form)
        for form in (RAW, KEPT, SERVED)
    )
    times = {batch: _times(forms, rows, batch, rounds) for batch in BATCHES}
    operators = {RAW: _nodes(raw), KEPT: _nodes(kept), SERVED: _nodes(kept), FOLDED: _nodes(folded)}
    return Folding(name, operators, times, difference)


def with_operators(net: nn.Module, pixels: Tensor) -> bytes:
    """The network as the exporter writes it without its optimizations: normalizations are kept."""
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The exporter warns about its own internals.
        program = torch.onnx.export(
            Answering(net, "softmax").eval(),
            (pixels[:2],),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={"inputs": ({0: batch},)},
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    assert program is not None
    return cleaned(program.model_proto)


def _constants_folded(content: bytes) -> bytes:
    """What does not depend on the input computed; no operator is fused with another."""
    import onnx_ir
    from onnxscript import optimizer

    model = onnx_ir.serde.deserialize_model(onnx.load_from_string(content))
    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)
    return cleaned(onnx_ir.serde.serialize_model(model))


def _session(content: bytes, *, fold: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        content,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=[] if fold else [FUSION],
    )


def _times(
    forms: Mapping[str, onnxruntime.InferenceSession], rows: Part, batch: int, rounds: int
) -> Mapping[str, Spread]:
    feed = {INPUT: np.resize(rows.inputs[INPUT], (batch, 28, 28))}

    def runner(runtime: onnxruntime.InferenceSession) -> Callable[[], object]:
        return lambda: runtime.run(None, feed)

    calls = {form: runner(runtime) for form, runtime in forms.items()}
    found = in_turns(calls, rounds=rounds, longest=2.0, warm=3)
    return {
        form: Spread(1e3 * spread.median, 1e3 * spread.low, 1e3 * spread.high)
        for form, spread in found.items()
    }


def _nodes(content: bytes) -> int:
    return len(onnx.load_from_string(content).graph.node)
