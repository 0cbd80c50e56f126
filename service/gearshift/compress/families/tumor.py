"""The tumor family: from a logistic regression to a deep ensemble; malignant is positive.

569 rows are too few to hold a good test set out, so the recipe cross-validates: in every fold
these functions train anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gearshift.compress import data, graphs
from gearshift.compress.dataset import DataSets, Part
from gearshift.compress.made import Made, Workshop

INPUT = "features"
HELD_OUT = 0.3
SPLIT_SEED = 20240229
REACH = 4.0
"""Raw values are clipped at so many deviations from the training mean."""

Floats = npt.NDArray[np.float32]


def biopsies(cache: Path, report: data.Report) -> DataSets:
    """70 % of the rows to train and cross-validate on, 30 % held out, malignant alike in both."""
    from sklearn.model_selection import train_test_split

    table = data.tumor_table()
    rest, held_out = train_test_split(
        np.arange(len(table.labels)),
        test_size=HELD_OUT,
        stratify=table.labels,
        random_state=SPLIT_SEED,
    )
    whole = Part({INPUT: table.features}, table.labels)
    origin = data.TUMOR_ORIGIN
    return DataSets(
        name=origin.name,
        source=origin.source,
        licence=origin.licence,
        training=whole.rows(rest),
        calibration=whole.rows(slice(0, 0)),
        evaluation=whole.rows(held_out),
    )


def linear(shop: Workshop, *, penalty: float) -> Made:
    """Logistic regression with a quadratic penalty on standardized columns."""
    from sklearn.linear_model import LogisticRegression

    from gearshift.compress.perceptrons import parameters

    features, labels = _rows(shop)
    scaling = graphs.Scaling.fit(features, REACH)
    model = LogisticRegression(C=1.0 / penalty, max_iter=1_000)
    model.fit(scaling.apply(features), labels)
    weight = model.coef_.astype(np.float32).reshape(1, -1, 1)
    layers = [graphs.Layer(weight, model.intercept_.astype(np.float32).reshape(1, 1, 1))]
    return Made(
        artifact=graphs.perceptron(scaling, layers),
        parameters=parameters(layers),
        about="logistic regression",
        tools=("scikit-learn", "onnx", "onnxruntime"),
    )


def networks(
    shop: Workshop, *, smoothing: float, logarithmic: bool = False, **settings: Any
) -> Made:
    """Several networks side by side, on the columns or on their logarithms.

    With `smoothing` s they learn 1 - s and s instead of 1 and 0: the table's few odd rows pull
    less.
    """
    from gearshift.compress.perceptrons import Plan, fit_perceptrons, parameters

    features, labels = _rows(shop)
    scaling = graphs.Scaling.fit(features, REACH, logarithmic=logarithmic)
    targets = (labels * (1.0 - 2.0 * smoothing) + smoothing).astype(np.float32)
    settings["hidden"] = tuple(settings["hidden"])
    layers = fit_perceptrons(scaling.apply(features), targets, Plan(**settings), shop.seed)
    return Made(
        artifact=graphs.perceptron(scaling, layers),
        parameters=parameters(layers),
        about=f"{len(layers[0].weight)} networks",
        tools=("torch", "scikit-learn", "onnx", "onnxruntime"),
    )


def mean(shop: Workshop, *, of: list[str]) -> Made:
    """The mean of the probabilities of earlier steps."""
    parts = [shop.made[name] for name in of]
    return Made(
        artifact=graphs.mean_of([part.artifact for part in parts]),
        parameters=sum(part.parameters for part in parts),
        about=f"the mean of {', '.join(of)}",
        tools=tuple({tool for part in parts for tool in part.tools}),
    )


def _rows(shop: Workshop) -> tuple[Floats, npt.NDArray[np.int64]]:
    part = shop.data.training
    return np.asarray(part.inputs[INPUT], np.float32), part.labels
