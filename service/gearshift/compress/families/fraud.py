"""The fraud family: extra trees, small networks taught by them, a linear model.

Everything learns from the payments that are not held out, the calibration part included; all
settings (depths, widths, the clipping) were chosen with that part left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gearshift.compress import graphs
from gearshift.compress.dataset import Part, joined
from gearshift.compress.families.fraud_data import INPUT, TIME
from gearshift.compress.made import Made, Workshop

if TYPE_CHECKING:
    from sklearn.ensemble import ExtraTreesClassifier

REACH = 8.0
"""Raw values are clipped at so many deviations: the columns have very long tails."""
TREE_TOOLS = ("scikit-learn", "onnx", "onnxruntime")
NETWORK_TOOLS = ("torch", *TREE_TOOLS)

Floats = npt.NDArray[np.float32]


def trees(shop: Workshop, **settings: Any) -> Made:
    """Extra trees (Geurts et al., 2006); `settings` are scikit-learn's own."""
    rows = learned(shop)
    classifier = _extra_trees(shop.seed, settings)
    classifier.fit(_timeless(rows), rows.labels)
    forest = _forest(classifier)
    return Made(
        artifact=forest.model(rows.inputs[INPUT].shape[1]),
        parameters=forest.parameters(),
        about=f"{len(classifier.estimators_)} extra trees",
        tools=TREE_TOOLS,
    )


def network(
    shop: Workshop, *, hidden: list[int], members: int = 1, taught: float = 0.0, **settings: Any
) -> Made:
    """Networks on clipped, standardized columns; several give the mean of their probabilities.

    `taught` is the share of the trees' opinion in what they learn; the labels give the rest.
    The trees are asked about rows that they did not grow on.
    """
    from gearshift.compress.perceptrons import Plan, fit_perceptrons, parameters

    rows = learned(shop)
    targets = rows.labels.astype(np.float32)
    if taught > 0.0:
        shop.report("asking trees about rows that they did not grow on")
        soft = _out_of_fold(_timeless(rows), rows.labels, shop.seed)
        targets = (taught * soft + (1.0 - taught) * targets).astype(np.float32)
    features = np.asarray(rows.inputs[INPUT], np.float32)
    scaling = graphs.Scaling.fit(features, REACH, ignored=(TIME,))
    plan = Plan(hidden=tuple(hidden), members=members, **settings)
    layers = fit_perceptrons(scaling.apply(features), targets, plan, shop.seed)
    return Made(
        artifact=graphs.perceptron(scaling, layers),
        parameters=parameters(layers),
        about=f"{members} networks of {hidden} hidden units",
        tools=NETWORK_TOOLS,
    )


def learned(shop: Workshop) -> Part:
    """All rows that are not held out."""
    return joined(shop.data.training, shop.data.calibration)


def _timeless(rows: Part) -> Floats:
    """The columns without the time: a constant column is never split on."""
    features = np.array(rows.inputs[INPUT], np.float32)
    features[:, TIME] = 0.0
    return features


def _extra_trees(seed: int, settings: dict[str, Any]) -> ExtraTreesClassifier:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(criterion="entropy", n_jobs=-1, random_state=seed, **settings)


def _out_of_fold(features: Floats, labels: npt.NDArray[np.int64], seed: int) -> Floats:
    """The trees' opinion on each row, from trees that did not see it: [n]."""
    from sklearn.model_selection import StratifiedKFold

    soft = np.zeros(len(labels), np.float32)
    settings = {"n_estimators": 60, "min_samples_leaf": 3, "max_features": 10}
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    for seen, asked in folds.split(features, labels):
        classifier = _extra_trees(seed, settings)
        classifier.fit(features[seen], labels[seen])
        soft[asked] = classifier.predict_proba(features[asked])[:, 1]
    return soft


def _forest(classifier: ExtraTreesClassifier) -> graphs.Forest:
    """The fitted trees in flat form; each leaf gives its share of frauds over all trees."""
    forest = graphs.Forest()
    for estimator in classifier.estimators_:
        tree = estimator.tree_
        share = tree.value[:, 0, 1] / tree.value[:, 0, :].sum(axis=1)
        forest.add(
            np.where(tree.children_left < 0, -1, tree.feature),
            tree.threshold,
            tree.children_left,
            tree.children_right,
            share / len(classifier.estimators_),
        )
    return forest
