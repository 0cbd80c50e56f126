"""How soon a broken variant is noticed in other orders of the same rows: one run is one draw.

The rows and the rules are those of the server, without it: labels come in the order of the
answers, and it is looked after every few of them.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from loadtests.breaking import disturb
from loadtests.peers.peer import ROOT
from loadtests.replaying import MODEL

from gearshift.compress import evaluate
from gearshift.core.accuracy import average_precision
from gearshift.core.live import WINDOW, Labelled, estimate, fallen
from gearshift.demo.traffic import Samples

METRIC = "average_precision"
SHARES = (1.0, 0.9, 0.7, 0.5, 0.3)
"""Of the weights that are shuffled."""
ORDERS = 20
EVERY, MOST = 20, 1_000
"""Labels between two looks, and after which it counts as not noticed."""


@dataclass(slots=True)
class Sooner:
    """Labels until a variant with that share of its weights shuffled is noticed, in each order;
    None where it is not: with a new file's empty window, and after a full one of sound rows."""

    share: float
    value: float
    fresh: list[int | None]
    full: list[int | None]


def labelled(scores: Sequence[float], samples: Samples, order: Sequence[int]) -> list[Labelled]:
    return [
        Labelled(scores[row], int(samples.labels[row]), float(samples.weights[row]))
        for row in order
    ]


def noticed(sound: Sequence[Labelled], broken: Sequence[Labelled], low: float) -> int | None:
    """After how many broken rows behind the sound ones."""
    for count in range(EVERY, MOST + 1, EVERY):
        live = estimate(METRIC, [*sound, *broken[:count]][-WINDOW:])
        if live is not None and fallen(low, live):
            return count
    return None


def scores_of(artifact: Path, samples: Samples) -> list[float]:
    """What an artifact says about the held-out rows."""
    name = evaluate.session(artifact).get_inputs()[0].name
    found: list[float] = evaluate.predict(artifact, {name: samples.inputs}).ravel().tolist()
    return found


def other_orders(samples: Samples, variant: str) -> list[Sooner]:
    found = []
    artifact = ROOT / "model_repo" / MODEL / variant / "model.onnx"
    low = json.loads(artifact.with_name("card.json").read_text())["accuracy"]["low"]
    good = scores_of(artifact, samples)
    for share in SHARES:
        with tempfile.TemporaryDirectory() as folder:
            copied = Path(folder) / variant
            shutil.copytree(artifact.parent, copied)
            disturb(copied / "model.onnx", share)
            bad = scores_of(copied / "model.onnx", samples)
        value = average_precision(
            [(score,) for score in bad], samples.labels.tolist(), samples.weights.tolist()
        )
        sooner = Sooner(share, value, [], [])
        for seed in range(ORDERS):
            random = np.random.default_rng(100 + seed)
            rows = [random.permutation(len(good)).tolist() for _ in range(2)]
            broken = labelled(bad, samples, rows[1])
            sooner.fresh.append(noticed([], broken, low))
            sooner.full.append(noticed(labelled(good, samples, rows[0]), broken, low))
        found.append(sooner)
    return found
