"""The graphs compute what was trained: trees as scikit-learn, networks as plain NumPy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier

from gearshift.compress import graphs
from gearshift.compress.evaluate import predict
from gearshift.compress.families import fraud

WIDTH = 4


def rows(n: int = 50, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(3, 5, (n, WIDTH)).astype(np.float32)


def layers(members: int, *sizes: int) -> list[graphs.Layer]:
    generator = np.random.default_rng(1)
    return [
        graphs.Layer(
            generator.normal(size=(members, inputs, outputs)).astype(np.float32),
            generator.normal(size=(members, 1, outputs)).astype(np.float32),
        )
        for inputs, outputs in pairwise(sizes)
    ]


def by_hand(scaled: np.ndarray, network: list[graphs.Layer]) -> np.ndarray:
    x = scaled[None]
    for index, layer in enumerate(network):
        x = x @ layer.weight + layer.bias
        if index < len(network) - 1:
            x = np.maximum(x, 0)
    return (1 / (1 + np.exp(-x))).mean(axis=0)


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize(
    ("members", "sizes"), [(1, (4, 1)), (1, (4, 3, 1)), (5, (4, 3, 1)), (3, (4, 6, 5, 1))]
)
def test_a_perceptron_is_its_layers_after_its_scaling(
    members: int, sizes: tuple[int, ...], logarithmic: bool
) -> None:
    inputs, network = rows(), layers(members, *sizes)
    scaling = graphs.Scaling.fit(inputs, 1.5, ignored=(2,), logarithmic=logarithmic)

    served = predict(graphs.perceptron(scaling, network), {"features": inputs}, batch=7)

    assert served.shape == (50, 1)
    np.testing.assert_allclose(served, by_hand(scaling.apply(inputs), network), atol=2e-5)


def test_scaling_clips_standardizes_and_ignores() -> None:
    inputs = rows(1000)
    scaled = graphs.Scaling.fit(inputs, 2.0, ignored=(1,)).apply(inputs)
    assert np.abs(scaled).max() == pytest.approx(2.0, abs=1e-3)
    assert scaled[:, 0].std() == pytest.approx(1.0, abs=0.1)
    assert (scaled[:, 1] == 0).all()


def test_no_input_gives_a_value_that_is_not_finite() -> None:
    scaling = graphs.Scaling.fit(rows(), 3.0, logarithmic=True)
    odd = np.array([[-1e30, 0.0, 1e30, np.inf]], np.float32)
    assert np.isfinite(
        predict(graphs.perceptron(scaling, layers(2, 4, 3, 1)), {"features": odd})
    ).all()


def test_the_mean_of_models_is_the_mean_of_their_outputs() -> None:
    inputs = rows()
    scaling = graphs.Scaling.fit(inputs, 3.0)
    parts = [
        graphs.perceptron(scaling, layers(1, 4, 1)),
        graphs.perceptron(scaling, layers(3, 4, 2, 1)),
    ]
    given = {"features": inputs}
    expected = (predict(parts[0], given) + predict(parts[1], given)) / 2
    np.testing.assert_allclose(predict(graphs.mean_of(parts), given), expected, atol=1e-6)


def test_a_forest_agrees_with_the_trees_it_was_made_of() -> None:
    inputs = rows(300)
    labels = (inputs[:, 0] + inputs[:, 1] ** 2 > 12).astype(int)
    trees = ExtraTreesClassifier(7, min_samples_leaf=2, random_state=0).fit(inputs, labels)
    forest = graphs.Forest()
    for estimator in trees.estimators_:
        tree = estimator.tree_
        share = tree.value[:, 0, 1] / tree.value[:, 0].sum(axis=1)
        feature = np.where(tree.children_left < 0, -1, tree.feature)
        forest.add(feature, tree.threshold, tree.children_left, tree.children_right, share / 7)

    fresh = rows(200, seed=3)
    expected = trees.predict_proba(fresh)[:, 1:]
    np.testing.assert_allclose(
        predict(forest.model(WIDTH), {"features": fresh}), expected, atol=1e-6
    )
    leaves = sum(estimator.tree_.n_leaves for estimator in trees.estimators_)
    nodes = sum(estimator.tree_.node_count for estimator in trees.estimators_)
    assert forest.parameters() == 2 * (nodes - leaves) + leaves


def test_boosted_trees_agree_with_the_mean_of_their_members_log_odds() -> None:
    inputs = rows(400)
    labels = (inputs[:, 0] + inputs[:, 1] ** 2 > 12).astype(int)
    members = [
        HistGradientBoostingClassifier(max_iter=5, max_features=0.5, random_state=seed)
        for seed in (0, 1)
    ]
    for member in members:
        member.fit(inputs, labels)
    forest, offset = fraud._boosted_forest(members)

    fresh = rows(200, seed=3)
    logits = np.mean([member.decision_function(fresh) for member in members], axis=0)
    expected = 1 / (1 + np.exp(-logits[:, np.newaxis]))
    found = predict(forest.model(WIDTH, offset=offset), {"features": fresh})
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert forest.trees == 10


@settings(max_examples=200)
@given(
    st.floats(-1e30, 1e30),
    st.integers(-2, 2),
)
def test_a_rounded_threshold_sends_no_row_to_the_other_side(threshold: float, steps: int) -> None:
    rounded = graphs.float32_at_most(np.array([threshold]))[0]
    x = np.float32(threshold)
    for _ in range(abs(steps)):
        x = np.nextafter(x, np.float32(np.inf if steps > 0 else -np.inf))
    assert (float(x) <= threshold) == (x <= rounded)
