"""What is kept of an answer: the class and its probability, or the score. Never inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gearshift.core.catalog import Catalog, Model
from gearshift.core.live import Kind, kind_of
from gearshift.ports import Array

Column = npt.NDArray[np.float64]

NUMBERS = frozenset(
    ("FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "BOOL")
)


@dataclass(frozen=True, slots=True)
class Reading:
    """How the answers of one model are read: from which output, and what they are. `classes` is
    how many there are, 0 where the answer is a score."""

    kind: Kind
    output: str
    classes: int = 0

    def read(self, outputs: Array) -> tuple[Column, Column]:
        """Of (rows, *shape): each row's class or score, and its probability (of a score: itself).
        What is not finite stays so."""
        flat = np.asarray(outputs, np.float64).reshape(len(outputs), -1)
        if self.kind is Kind.SCORE:
            return flat[:, 0], flat[:, 0]
        highest = flat.max(axis=1)
        answers = np.where(np.isfinite(highest), flat.argmax(axis=1), np.nan)
        # Not all variants end in a softmax: what cannot be probabilities is made into some.
        given = (flat.min(axis=1) >= 0.0) & (highest <= 1.0)
        with np.errstate(invalid="ignore", over="ignore"):
            made = 1.0 / np.exp(flat - highest[:, None]).sum(axis=1)
        return answers, np.where(given, highest, made)

    def agree(self, one: float, other: float) -> bool:
        """Whether both name the same class, or say the same side of one half."""
        return one == other if self.kind is Kind.CLASS else (one >= 0.5) == (other >= 0.5)


class Readings:
    """How to read the answers of a catalog's models, and why those of others are not kept."""

    def __init__(self, catalog: Catalog) -> None:
        self.by_model: dict[str, Reading] = {}
        self.why_not: dict[str, str] = {}
        for model in catalog.models.values():
            found = _reading_of(model)
            if isinstance(found, Reading):
                self.by_model[model.name] = found
            else:
                self.why_not[model.name] = found

    @property
    def models(self) -> Mapping[str, Reading]:
        return self.by_model


def _reading_of(model: Model) -> Reading | str:
    kind = kind_of(model.metric)
    if kind is None:
        return (
            f"the metric of model {model.name!r}, {model.metric}, is not made of single rows and"
            " their labels; feedback counts for top1, average_precision, roc_auc and"
            " recall_at_specificity_..."
        )
    output = model.signature.outputs[0]
    width = math.prod(output.shape)
    fits = width >= 2 if kind is Kind.CLASS else width == 1
    if not fits or output.datatype not in NUMBERS:
        needed = "a value for each class" if kind is Kind.CLASS else "one score"
        return (
            f"the metric of model {model.name!r}, {model.metric}, needs {needed} a row in the"
            f" first output; {output.name!r} is {output.datatype} {list(output.shape)}"
        )
    return Reading(kind, output.name, width if kind is Kind.CLASS else 0)
