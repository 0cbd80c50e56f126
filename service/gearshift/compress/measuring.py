"""The accuracy of what was made: the artifact as served, on rows that no step has seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gearshift.compress import metrics
from gearshift.compress.dataset import DataSets, checked
from gearshift.compress.evaluate import predict
from gearshift.compress.job import Job, told
from gearshift.compress.made import Made
from gearshift.compress.pipeline import make
from gearshift.compress.recipe import Folds
from gearshift.core.card import Measurement


@dataclass(frozen=True, slots=True)
class Measured:
    """A variant with its metrics, the recipe's main one first, and its evaluation outputs."""

    made: Made
    accuracy: Measurement
    further: tuple[Measurement, ...]
    outputs: npt.NDArray[np.float32]


def measure(job: Job, name: str, made: Made) -> Measured:
    """The recipe's metrics of the variant `name`, on the evaluation part or over folds."""
    labels = job.data.evaluation.labels
    with told(f"{job.path}: step {name!r}, evaluation"):
        outputs = predict(made.artifact, job.data.evaluation.inputs)
        held_out = [metrics.measure(m, labels, outputs) for m in _names(job)]
    if job.recipe.cross_fitting is not None:
        accuracy, *further = _over_people(job, name, outputs, job.recipe.cross_fitting)
    elif job.recipe.cross_validation is not None:
        accuracy, *further = _over_folds(job, name, job.recipe.cross_validation)
    else:
        return Measured(made, held_out[0], tuple(held_out[1:]), outputs)
    named = [replace(m, metric=f"held_out_{m.metric}") for m in held_out]
    return Measured(made, accuracy, (*further, *named), outputs)


def _over_people(
    job: Job, name: str, outputs: npt.NDArray[np.float32], folds: int
) -> list[Measurement]:
    """The metrics of all folds' answers together; `outputs` are those of fold 0."""
    answers, labels = [outputs], [job.data.evaluation.labels]
    for number in range(1, folds):
        fold = job.fold(number, folds)
        artifact = make(fold, only=[name])[name].artifact
        answers.append(predict(artifact, fold.data.evaluation.inputs))
        labels.append(fold.data.evaluation.labels)
    together, whose = np.concatenate(answers), np.concatenate(labels)
    found = [metrics.measure(metric, whose, together) for metric in _names(job)]
    words = f"{folds}-fold cross-fitting, each fold by files made from the others; "
    return [replace(m, method=words + m.method) for m in found]


def _names(job: Job) -> Sequence[str]:
    return (job.recipe.metric, *job.recipe.further)


def _over_folds(job: Job, name: str, folds: Folds) -> list[Measurement]:
    """Every fold does the whole recipe up to `name` anew and is run as it would be served."""
    values: dict[str, list[float]] = {metric: [] for metric in _names(job)}
    for number, data in enumerate(_folds(job.data, folds, job.recipe.seed), start=1):
        fold = job.with_data(data, f"fold-{number}")
        made = make(fold, only=[name])[name]
        outputs = predict(made.artifact, data.evaluation.inputs)
        for metric in values:
            values[metric].append(metrics.score(metric, data.evaluation.labels, outputs))
    job.report(f"{job.recipe.model}: {name}: {folds.folds * folds.repeats} folds measured")
    rows = len(job.data.training)
    return [_mean(metric, np.array(found), rows, folds) for metric, found in values.items()]


def _folds(data: DataSets, folds: Folds, seed: int) -> Iterator[DataSets]:
    from sklearn.model_selection import RepeatedStratifiedKFold

    part = data.training
    splitter = RepeatedStratifiedKFold(
        n_splits=folds.folds, n_repeats=folds.repeats, random_state=seed
    )
    for seen, asked in splitter.split(np.zeros(len(part)), part.labels):
        yield checked(replace(data, training=part.rows(seen), evaluation=part.rows(asked)))


def _mean(metric: str, values: metrics.Values, n: int, folds: Folds) -> Measurement:
    low, high = metrics.corrected_interval(values, 1.0 / folds.folds)
    return Measurement(
        metric=metric,
        value=float(values.mean()),
        n=n,
        low=low,
        high=high,
        method=(
            f"{folds.repeats} times repeated stratified {folds.folds}-fold cross-validation, "
            "each fold trained and served anew; Nadeau-Bengio corrected t interval"
        ),
    )
