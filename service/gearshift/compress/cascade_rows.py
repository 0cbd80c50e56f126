"""The held-out rows that a model's cascades are learned from, and what its variants say to them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gearshift.compress.cascade import Outputs
from gearshift.compress.dataset import Array, DataError, Labels, read_part
from gearshift.compress.evaluate import predict
from gearshift.compress.job import StepFailed, open_data
from gearshift.compress.made import Report
from gearshift.compress.recipe import RecipeError
from gearshift.core.catalog import Model, Variant

RECIPE_FILE = "recipe.toml"
WEIGHTS = "weights"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows that no variant has learned from: inputs by name, labels, and for how many rows each
    stands. `about` says in words which they are."""

    inputs: Mapping[str, Array]
    labels: Labels
    weights: npt.NDArray[np.float64]
    about: str
    sha256: str

    def __len__(self) -> int:
        return len(self.labels)


def held_out(model: Model, folder: Path, cache: Path, report: Report) -> HeldOut:
    """The evaluation part of the recipe in `folder` where it is to be had, else samples.npz.

    DataError if there is neither.
    """
    recipe = folder / RECIPE_FILE
    if recipe.exists():
        try:
            _, data = open_data(recipe, cache, report)
        except (StepFailed, RecipeError) as error:
            if model.samples is None:
                raise
            report(f"{model.name}: the recipe's data is not to be had, so samples.npz: {error}")
        else:
            part = data.evaluation
            about = f"{len(part):,} held-out rows of {data.name}"
            return HeldOut(part.inputs, part.labels, np.ones(len(part)), about, part.sha256())
    if model.samples is None:
        raise DataError(
            f"model {model.name!r} has neither {recipe} nor samples.npz: a cascade is learned from"
            " held-out rows; add one of the two"
        )
    return _samples(model, Path(model.samples))


def _samples(model: Model, path: Path) -> HeldOut:
    part = read_part(path)
    weights = part.inputs.get(WEIGHTS, np.ones(len(part))).astype(np.float64)
    inputs = {name: array for name, array in part.inputs.items() if name != WEIGHTS}
    if set(inputs) != {"inputs"} or len(model.signature.inputs) != 1:
        raise DataError(f"{path}: holds {sorted(inputs)}; a cascade needs one array `inputs`")
    named = {model.signature.inputs[0].name: inputs["inputs"]}
    about = f"the {len(part):,} held-out rows of samples.npz"
    return HeldOut(named, part.labels, weights, about, part.sha256())


def answers(variant: Variant, rows: HeldOut, cache: Path) -> Outputs:
    """The variant's first output for all rows, kept in `cache` by what both are made of."""
    if not Path(variant.artifact).is_file():
        raise DataError(f"variant {variant.name!r} has no file here that could be run")
    key = hashlib.sha256(f"{variant.artifact_sha256}{rows.sha256}".encode()).hexdigest()[:16]
    kept = cache / "cascades" / f"{key}.npy"
    if kept.exists():
        found: Outputs = np.load(kept)
        return found
    outputs = predict(Path(variant.artifact), rows.inputs)
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(".partial.npy")
    np.save(partial, outputs)
    partial.replace(kept)
    return outputs
