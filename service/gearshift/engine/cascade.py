"""Cascades in the engine: which rows go on, and one answer out of two."""

from __future__ import annotations

import numpy as np

from gearshift.core.catalog import Cascade, Model
from gearshift.engine.confidence import confidence
from gearshift.engine.flight import Answer, First, Run
from gearshift.ports import Array


def unsure_rows(model: Model, cascade: Cascade, run: Run) -> Array:
    """Which rows of a batch the first variant is not sure enough of, (rows,) bool."""
    found: Array = confidence(run.outputs, model) < cascade.threshold
    return found


def completed(first: First, run: Run, begin: int) -> Answer:
    """The answer to a request whose marked rows are those of `run` from `begin` on; the others
    keep their first answer. It is the second variant that answers."""
    answer, unsure = first.answer, first.unsure
    if unsure.all():
        return answer._replace(run=run, row=begin)
    rows, end = len(unsure), begin + int(np.count_nonzero(unsure))
    merged = {}
    for name, array in answer.run.outputs.items():
        merged[name] = array[answer.row : answer.row + rows].copy()
        merged[name][unsure] = run.outputs[name][begin:end]
    whole = Run(run.variant, merged, rows, run.begun, run.finished)
    return answer._replace(run=whole, row=0)
