"""What is kept of an answer: the class and its probability, or the score. Never inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gearshift.core.catalog import Catalog, Model
from gearshift.core.live import Kind, kind_of
from gearshift.engine.confidence import FLOATS, confidence_of
from gearshift.ports import Array, Tensors

Column = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reading:
    """How the answers of one model are read: from which output, and what they are. `classes` is
    how many there are, 0 where the answer is a score."""

    kind: Kind
    output: str
    classes: int
    sure: Callable[[Tensors], Column] | None
    """The probability of a class; None where the answer is a score."""

    def read(self, outputs: Array) -> tuple[Column, Column]:
        """Of (rows, *shape): each row's class or score, and its probability (of a score: itself).
        What is not finite stays so."""
        flat = np.asarray(outputs, np.float64).reshape(len(outputs), -1)
        if self.sure is None:
            return flat[:, 0], flat[:, 0]
        answers = np.where(np.isfinite(flat).all(axis=1), flat.argmax(axis=1), np.nan)
        return answers, self.sure({self.output: outputs})

    def agree(self, one: float, other: float) -> bool:
        """Whether both name the same class, or say the same side of one half."""
        return one == other if self.kind is Kind.CLASS else (one >= 0.5) == (other >= 0.5)


class Readings:
    """How to read the answers of a catalog's models, and why those of others are not kept.

    Followed on the loop, read on any thread: what is read is replaced as a whole.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.models: Mapping[str, Reading] = {}
        """By name, of those that are served."""
        self.why_not: Mapping[str, str] = {}
        self._generations: dict[tuple[str, int], Reading | str] = {}
        self.follow(catalog)

    def follow(self, catalog: Catalog) -> None:
        """Read the answers of this catalog from now on, and those of others until `forget`."""
        served = {}
        for name, model in catalog.models.items():
            key = (name, model.generation)
            if key not in self._generations:
                self._generations[key] = _reading_of(model)
            served[name] = self._generations[key]
        self.models = {name: each for name, each in served.items() if isinstance(each, Reading)}
        self.why_not = {name: each for name, each in served.items() if isinstance(each, str)}

    def forget(self, model: Model) -> None:
        """No answer of this generation comes any more."""
        self._generations.pop((model.name, model.generation), None)

    def of(self, model: Model) -> Reading | None:
        """How answers of this generation are read; None where they are not kept."""
        found = self._generations.get((model.name, model.generation))
        return found if isinstance(found, Reading) else None


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
    if not fits or output.datatype not in FLOATS:
        needed = "a value for each class" if kind is Kind.CLASS else "one score"
        return (
            f"the metric of model {model.name!r}, {model.metric}, needs {needed} a row as"
            f" floating-point numbers in the first output; {output.name!r} is"
            f" {output.datatype} {list(output.shape)}"
        )
    if kind is Kind.SCORE:
        return Reading(kind, output.name, 0, None)
    return Reading(kind, output.name, width, confidence_of(model))
