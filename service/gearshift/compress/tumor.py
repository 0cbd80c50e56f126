"""The tumor family: from a logistic regression to a deep ensemble; malignant is positive.

569 rows are too few to hold a good test set out, so a card's accuracy comes from repeated
stratified cross-validation on 70 % of them: in every fold the whole variant is trained,
exported and run as it would be served. The published artifact is trained on all of that 70 %;
the other 30 % give one more measurement, and the samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gearshift.compress import data, graphs, timings
from gearshift.compress.evaluate import content_sha256, predict, require_disjoint
from gearshift.compress.metrics import METRICS, corrected_interval, measure
from gearshift.compress.perceptrons import Plan, fit_perceptrons, parameters
from gearshift.compress.publish import Draft, publish, publish_samples
from gearshift.core.card import DataSource, Measurement

MODEL = "tumor"
METRIC = "roc_auc"
FURTHER = ("average_precision", "recall_at_specificity_0.95")
HELD_OUT = 0.3
FOLDS = 5
REPEATS = 10
SEED = 20240229
REACH = 4.0
"""Raw values are clipped at so many deviations from the training mean."""
SMOOTHING = 0.03
"""The networks learn 0.97 and 0.03 instead of 1 and 0: the table's few odd rows pull less."""
LINEAR_PENALTY = 1.0
"""Inverse strength of the penalty, as scikit-learn's C."""
NETWORKS = Plan(
    hidden=(64, 32), members=8, epochs=50, batch=64, rate=3e-3, weight_decay=0.1, noise=0.4
)
SOURCES = ("data", "evaluate", "graphs", "metrics", "perceptrons", "tumor")

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fitted:
    """An exported variant and how many numbers it learned."""

    artifact: bytes
    parameters: int


Fit = Callable[[data.Table], Fitted]


def linear(rows: data.Table) -> Fitted:
    """Logistic regression with a quadratic penalty on standardized columns."""
    from sklearn.linear_model import LogisticRegression

    scaling = graphs.Scaling.fit(rows.features, REACH)
    model = LogisticRegression(C=LINEAR_PENALTY, max_iter=1_000)
    model.fit(scaling.apply(rows.features), rows.labels)
    weight = model.coef_.astype(np.float32).reshape(1, -1, 1)
    layers = [graphs.Layer(weight, model.intercept_.astype(np.float32).reshape(1, 1, 1))]
    return Fitted(graphs.perceptron(scaling, layers), parameters(layers))


def networks(rows: data.Table, *, logarithmic: bool = False) -> Fitted:
    """Several networks side by side, on the columns or on their logarithms."""
    scaling = graphs.Scaling.fit(rows.features, REACH, logarithmic=logarithmic)
    targets = (rows.labels * (1.0 - 2.0 * SMOOTHING) + SMOOTHING).astype(np.float32)
    layers = fit_perceptrons(scaling.apply(rows.features), targets, NETWORKS, SEED)
    return Fitted(graphs.perceptron(scaling, layers), parameters(layers))


def deep_ensemble(rows: data.Table) -> Fitted:
    """Three opinions of different making: the networks, networks on logarithms, the linear."""
    parts = [networks(rows), networks(rows, logarithmic=True), linear(rows)]
    artifact = graphs.mean_of([part.artifact for part in parts])
    return Fitted(artifact, sum(part.parameters for part in parts))


def build(repository: Path, cache: Path, report: data.Report) -> None:
    """Cross-validate, train, measure and publish all variants, then the samples."""
    started = time.monotonic()
    rest, held_out = split(data.tumor_table())
    report(f"tumor: {len(rest.labels)} rows to train, {len(held_out.labels)} held out")
    recipes: tuple[tuple[str, Fit, str, tuple[str, ...]], ...] = (
        (
            "deep-ensemble",
            deep_ensemble,
            "the mean of three: 8 networks, 8 networks on logarithms, the linear model",
            ("torch", "scikit-learn", "onnx", "onnxruntime"),
        ),
        (
            "networks",
            networks,
            "8 networks of 64 and 32 hidden units, mean probability",
            ("torch", "scikit-learn", "onnx", "onnxruntime"),
        ),
        (
            "linear",
            linear,
            "logistic regression on clipped, standardized columns",
            ("scikit-learn", "onnx", "onnxruntime"),
        ),
    )
    for variant, fit, description, tools in recipes:
        accuracy, *further = cross_validate(rest, fit)
        fitted = fit(rest)
        require_disjoint(held_out.features, rest.features)
        scores = predict(fitted.artifact, held_out.features)
        further += [_held_out(name, held_out.labels, scores) for name in (METRIC, *FURTHER)]
        draft = Draft(
            model=MODEL,
            variant=variant,
            artifact=fitted.artifact,
            parameters=fitted.parameters,
            description=description,
            accuracy=accuracy,
            further=tuple(further),
            data=DataSource(
                name=data.TUMOR_ORIGIN.name,
                source=data.TUMOR_ORIGIN.source,
                licence=data.TUMOR_ORIGIN.licence,
                training_sha256=content_sha256(rest.features, rest.labels),
                evaluation_sha256=content_sha256(held_out.features, held_out.labels),
            ),
            tools=tools,
            sources=SOURCES,
        )
        publish(repository, draft)
        report(
            f"tumor: {variant}: ROC AUC {accuracy.value:.4f} "
            f"[{accuracy.low:.3f}, {accuracy.high:.3f}], {len(fitted.artifact)} bytes"
        )
    timings.note(cache, "tumor: all variants, cross-validated", time.monotonic() - started)
    weights = np.ones(len(held_out.labels))
    publish_samples(repository, MODEL, held_out.features, held_out.labels, weights)


def split(table: data.Table) -> tuple[data.Table, data.Table]:
    """70 % of the rows to train and cross-validate on, 30 % held out, malignant alike in both."""
    from sklearn.model_selection import train_test_split

    rest, held_out = train_test_split(
        np.arange(len(table.labels)),
        test_size=HELD_OUT,
        stratify=table.labels,
        random_state=SEED,
    )
    return (
        data.Table(table.features[rest], table.labels[rest]),
        data.Table(table.features[held_out], table.labels[held_out]),
    )


def cross_validate(rows: data.Table, fit: Fit) -> list[Measurement]:
    """The metric and the further ones over all folds, each fold run as it would be served."""
    from sklearn.model_selection import RepeatedStratifiedKFold

    names = (METRIC, *FURTHER)
    values: dict[str, list[float]] = {name: [] for name in names}
    folds = RepeatedStratifiedKFold(n_splits=FOLDS, n_repeats=REPEATS, random_state=SEED)
    for seen, asked in folds.split(rows.features, rows.labels):
        training = data.Table(rows.features[seen], rows.labels[seen])
        require_disjoint(rows.features[asked], training.features)
        scores = predict(fit(training).artifact, rows.features[asked])[:, 0]
        for name in names:
            weights = np.ones(len(asked))
            values[name].append(METRICS[name](rows.labels[asked], scores, weights))
    return [_over_folds(name, np.array(values[name]), len(rows.labels)) for name in names]


def _over_folds(name: str, values: npt.NDArray[np.float64], n: int) -> Measurement:
    low, high = corrected_interval(values, 1.0 / FOLDS)
    return Measurement(
        metric=name,
        value=float(values.mean()),
        n=n,
        low=low,
        high=high,
        method=(
            f"{REPEATS} times repeated stratified {FOLDS}-fold cross-validation, each fold "
            "trained and served anew; Nadeau-Bengio corrected t interval"
        ),
    )


def _held_out(name: str, labels: Labels, scores: Floats) -> Measurement:
    """A measurement of the published artifact itself, on rows that no fold ever saw."""
    found = measure(name, labels, scores)
    return replace(found, metric=f"held_out_{name}")
