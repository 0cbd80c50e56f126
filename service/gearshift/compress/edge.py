"""Files for phones: ONNX Runtime's ORT format and LiteRT, measured in the runtime they are for.

A measurement runs in a process of its own that loads nothing but NumPy and the runtime, on one
thread: its peak memory is the model's, not the workshop's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnxruntime

from gearshift.compress.dataset import Part
from gearshift.errors import GearshiftError

if TYPE_CHECKING:
    from torch import nn

SUFFIX = {"ort": ".ort", "litert": ".tflite"}
TIMEOUT = 1_800.0
"""Seconds that a measurement may take before it counts as hung."""


class EdgeError(GearshiftError):
    """A mobile artifact cannot be made or run here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one run over rows showed, in the runtime of the artifact, on one thread."""

    outputs: npt.NDArray[np.float32]
    p50_ms: float
    """Median latency of one row."""
    peak_mb: float
    """The most memory that loading and running took, above the bare runtime's."""


def to_ort(content: bytes) -> bytes:
    """The graph in ORT format: optimized ahead, read by a phone without a protobuf parser.

    Only optimizations that hold on any processor are baked in: the layouts that suit the
    machine at hand would not suit a phone's.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.save_model_format", "ORT")
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary, "model.ort")
        options.optimized_model_filepath = str(target)
        try:
            onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise EdgeError(f"the graph cannot be converted to ORT format: {error}") from error
        return target.read_bytes()


def to_litert(net: nn.Module, examples: Part, activation: str) -> bytes:
    """The network as a .tflite file for one row at a time."""
    import torch

    try:
        import litert_torch
    except ImportError as error:
        raise EdgeError(
            "runtime = 'litert' needs the package litert-torch, which is not installed; "
            "take runtime = 'ort', or install it (see docs/compress.md)"
        ) from error
    from gearshift.compress.networks import Answering

    rows = examples.rows(slice(0, 1)).inputs.values()
    tensors = tuple(torch.from_numpy(array.copy()) for array in rows)
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary, "model.tflite")
        served = Answering(net, activation).eval()
        litert_torch.convert(served, tensors).export(str(target))
        return target.read_bytes()


def measure(content: bytes, runtime: str, part: Part) -> Measured:
    """Run every row of `part`, one at a time, in a process of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        artifact = folder / f"model{SUFFIX[runtime]}"
        artifact.write_bytes(content)
        np.savez(folder / "inputs.npz", **dict(part.inputs))  # type: ignore[arg-type]
        command = [sys.executable, "-m", "gearshift.compress.edge_run", str(artifact)]
        command += [str(folder / "inputs.npz"), str(folder / "outputs.npy")]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise EdgeError(f"the {runtime} runtime did not answer in {TIMEOUT:.0f} s") from error
        if done.returncode != 0:
            words = (done.stderr or done.stdout).strip().splitlines()
            raise EdgeError(
                f"the {runtime} runtime cannot run the artifact: {words[-1] if words else 'killed'}"
            )
        told = json.loads(done.stdout.splitlines()[-1])
        return Measured(outputs=np.load(folder / "outputs.npy"), **told)
