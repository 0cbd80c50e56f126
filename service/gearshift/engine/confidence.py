"""How sure a variant is of each of its answers: what decides which rows of a cascade go on.

For classes the largest probability (maximum softmax probability, Hendrycks and Gimpel 2017); for
one score p the probability of the likelier of both sides, max(p, 1 - p).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from gearshift.core.catalog import Model, Signature
from gearshift.ports import Array, Tensors

Confidence = npt.NDArray[np.float64]

FLOATS = ("FP16", "BF16", "FP32", "FP64")

SUM = 1e-3
"""How far from 1 probabilities may sum up: float16 and int8 variants round."""


def confidence(outputs: Tensors, model: Model) -> Confidence:
    """How sure the answers are, (rows,) between 0 and 1, from the model's first output.

    No row's confidence depends on its neighbours. NaN counts as not sure at all. ValueError as
    in `check_confidence`.
    """
    return confidence_of(model)(outputs)


def confidence_of(model: Model) -> Callable[[Tensors], Confidence]:
    """The same as a function of the outputs alone, for who asks it often."""
    measure = _measure(model.metric, model.signature)
    name = model.signature.outputs[0].name
    return lambda outputs: measure(np.asarray(outputs[name], np.float64))


def check_confidence(metric: str, signature: Signature) -> None:
    """ValueError with a sentence if answers of such a model do not say how sure they are."""
    _measure(metric, signature)


def _of_classes(values: Array) -> Confidence:
    """(rows, classes): probabilities as they are, anything else by its softmax."""
    flat = values.reshape(len(values), -1)
    highest: Confidence = flat.max(axis=1)
    given = (flat.min(axis=1) >= 0.0) & (np.abs(flat.sum(axis=1) - 1.0) <= SUM)
    if given.all():
        return np.minimum(highest, 1.0)
    with np.errstate(invalid="ignore"):
        # The softmax of the largest: all others relative to it, so that nothing overflows.
        softmax = 1.0 / np.exp(flat - highest[:, None]).sum(axis=1)
    return _sure_of_numbers(np.where(given, np.minimum(highest, 1.0), softmax))


def _of_score(values: Array) -> Confidence:
    """(rows, 1) or (rows,), scores in [0, 1]; beyond them nobody can be surer."""
    score = values.reshape(len(values))
    return _sure_of_numbers(np.minimum(np.maximum(score, 1.0 - score), 1.0))


def _sure_of_numbers(sure: Confidence) -> Confidence:
    # NaN is below no threshold: its row would not go on.
    sure[sure != sure] = 0.0
    return sure


_MEASURES: Mapping[str, Callable[[Array], Confidence]] = {
    "top1": _of_classes,
    "average_precision": _of_score,
    "roc_auc": _of_score,
}


def _measure(metric: str, signature: Signature) -> Callable[[Array], Confidence]:
    output = signature.outputs[0]
    measure = _MEASURES.get(metric)
    if measure is None:
        raise ValueError(
            f"answers judged by {metric!r} do not say how sure they are, and a cascade needs"
            f" that; it works with the metrics {', '.join(_MEASURES)}"
        )
    width = math.prod(output.shape)
    wanted = width >= 2 if measure is _of_classes else width == 1
    if not wanted or output.datatype not in FLOATS:
        kind = "a value for each class" if measure is _of_classes else "one score"
        raise ValueError(
            f"a cascade by {metric!r} needs {kind} a row as floating-point numbers in the first"
            f" output; {output.name!r} is {output.datatype} {list(output.shape)}"
        )
    return measure
