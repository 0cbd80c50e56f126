"""A variant broken on purpose: its file disturbed, or swapped under a server that runs.

    python -m loadtests.breaking MODEL VARIANT ARTIFACT --repository DIR --state-dir DIR

serves as `gearshift serve` does, until SIGUSR1: from then on VARIANT answers with the weights of
ARTIFACT, and nothing else changes. The server is told nothing of it: this is what a faulty input
pipeline, a bad core or a changed world look like from inside.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx
from onnx import numpy_helper

from gearshift.app import server
from gearshift.app.settings import load_settings
from gearshift.cli.running import configure_logs, run
from gearshift.core.catalog import Model, Variant
from gearshift.executors.onnx import OnnxExecutor


def disturb(artifact: Path, share: float = 1.0, seed: int = 0) -> None:
    """Shuffle a share of the weights of an ONNX file among themselves. Its card, and those of the
    cascades that it is part of, are told of the new file and claim what they did before: the
    repository refuses one of another file."""
    random = np.random.default_rng(seed)

    def shuffled(values: np.ndarray) -> np.ndarray:
        flat = values.ravel().copy()
        chosen = random.permutation(flat.size)[: round(share * flat.size)]
        flat[chosen] = flat[random.permutation(chosen)]
        return flat.reshape(values.shape)

    model = onnx.load(artifact)
    for tensor in model.graph.initializer:
        values = shuffled(numpy_helper.to_array(tensor))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "target_weights":  # the leaves of trees
                attribute.floats[:] = shuffled(np.array(attribute.floats)).tolist()
    before = hashlib.sha256(artifact.read_bytes()).hexdigest()
    artifact.write_bytes(model.SerializeToString())
    after = hashlib.sha256(artifact.read_bytes()).hexdigest()
    card = artifact.with_name("card.json")
    told = json.loads(card.read_text()) | {"artifact_bytes": artifact.stat().st_size}
    card.write_text(json.dumps(told, indent=2))
    for file in (card, *artifact.parents[1].glob("*/cascade.json")):
        file.write_text(file.read_text().replace(before, after))


class Breaking(OnnxExecutor):
    """Runs one variant with other weights from a signal on."""

    def __init__(self, model: str, variant: str, artifact: Path) -> None:
        super().__init__()
        self._names = model, variant
        self._artifact = str(artifact)

    def load(self, model: Model, variant: Variant) -> None:
        super().load(model, variant)
        if (model.name, variant.name) == self._names:
            other = replace(variant, artifact=self._artifact)
            signal.signal(signal.SIGUSR1, lambda *_: super(Breaking, self).load(model, other))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("variant")
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--state-dir", type=Path, required=True)
    asked = parser.parse_args()
    settings = load_settings(
        repository=asked.repository, state_dir=asked.state_dir, grpc_port=0, http_port=0
    )
    configure_logs(settings)

    def announce(grpc: str, http: str) -> None:
        print(f"gearshift is ready: gRPC on {grpc}, metrics on {http}/metrics", flush=True)

    executor = Breaking(asked.model, asked.variant, asked.artifact)
    with patch.object(server, "make_executors", lambda settings: {"onnx": executor}):
        run(lambda: server.serve(settings, lambda *_: None, announce))


if __name__ == "__main__":
    main()
