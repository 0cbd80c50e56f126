"""The fraud family: extra trees, boosted trees, small networks, a linear model, and their mean.

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
    from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier

REACH = 8.0
"""Raw values are clipped at so many deviations: the columns have very long tails."""
TREE_TOOLS = ("scikit-learn", "onnx", "onnxruntime")
NETWORK_TOOLS = ("torch", *TREE_TOOLS)

Floats = npt.NDArray[np.float32]


def trees(shop: Workshop, **settings: Any) -> Made:
    """Extra trees (Geurts et al., 2006); `settings` are scikit-learn's own."""
    rows = learned(shop)
    classifier = extra_trees(shop.seed, settings)
    classifier.fit(timeless(rows), rows.labels)
    forest = _forest(classifier)
    return Made(
        artifact=forest.model(rows.inputs[INPUT].shape[1]),
        parameters=forest.parameters(),
        about=f"{len(classifier.estimators_)} extra trees",
        tools=TREE_TOOLS,
    )


def boosted(shop: Workshop, *, members: int, **settings: Any) -> Made:
    """Gradient boosting on histograms; `settings` are scikit-learn's own.

    The members differ in the columns that each of their splits may look at; their log-odds are
    averaged, so that they are one ensemble of trees with one sigmoid behind it.
    """
    rows = learned(shop)
    features = timeless(rows)
    fitted = [_boosting(shop.seed + member, settings) for member in range(members)]
    for member, classifier in enumerate(fitted, 1):
        shop.report(f"boosting, member {member} of {members}")
        classifier.fit(features, rows.labels)
    forest, offset = _boosted_forest(fitted)
    return Made(
        artifact=forest.model(features.shape[1], offset=offset),
        parameters=forest.parameters(),
        about=f"{forest.trees} boosted trees in {members} members",
        tools=TREE_TOOLS,
    )


def mean(shop: Workshop, *, of: list[str]) -> Made:
    """The mean of the probabilities of earlier steps."""
    parts = [shop.made[name] for name in of]
    return Made(
        artifact=graphs.mean_of([part.artifact for part in parts]),
        parameters=sum(part.parameters for part in parts),
        about=f"the mean of {', '.join(of)}",
        tools=NETWORK_TOOLS,
    )


def network(shop: Workshop, *, hidden: list[int], members: int = 1, **settings: Any) -> Made:
    """Networks on clipped, standardized columns; several give the mean of their probabilities.

    They learn from the labels alone: a share of the trees' opinion made them worse (the recipe's
    notes say by how much).
    """
    from gearshift.compress.perceptrons import Plan, fit_perceptrons, parameters

    rows = learned(shop)
    features = np.asarray(rows.inputs[INPUT], np.float32)
    scaling = graphs.Scaling.fit(features, REACH, ignored=(TIME,))
    plan = Plan(hidden=tuple(hidden), members=members, **settings)
    targets = rows.labels.astype(np.float32)
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


def timeless(rows: Part) -> Floats:
    """The columns without the time: a constant column is never split on."""
    features = np.array(rows.inputs[INPUT], np.float32)
    features[:, TIME] = 0.0
    return features


def extra_trees(seed: int, settings: dict[str, Any]) -> ExtraTreesClassifier:
    """Trees that have not grown yet."""
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(criterion="entropy", n_jobs=-1, random_state=seed, **settings)


def _boosting(seed: int, settings: dict[str, Any]) -> HistGradientBoostingClassifier:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(early_stopping=False, random_state=seed, **settings)


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


def _boosted_forest(
    fitted: list[HistGradientBoostingClassifier],
) -> tuple[graphs.Forest, float]:
    """The trees of all members in flat form, and what is added to their sum: log-odds."""
    forest, offset = graphs.Forest(), 0.0
    for classifier in fitted:
        # scikit-learn offers no public way to the trees; its version is pinned by the lock file.
        offset += float(classifier._baseline_prediction.item()) / len(fitted)
        for (predictor,) in classifier._predictors:
            nodes = predictor.nodes
            forest.add(
                np.where(nodes["is_leaf"], -1, nodes["feature_idx"]),
                nodes["num_threshold"],
                nodes["left"],
                nodes["right"],
                nodes["value"] / len(fitted),
            )
    return forest, offset
