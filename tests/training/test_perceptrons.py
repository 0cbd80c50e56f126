"""Networks on tables: they learn, repeat themselves, and the exported graph agrees."""

from __future__ import annotations

import numpy as np
import pytest

from gearshift.compress import graphs
from gearshift.compress.evaluate import predict
from gearshift.compress.learning import LossError
from gearshift.compress.metrics import roc_auc
from gearshift.compress.perceptrons import Plan, fit_perceptrons, parameters


def table(n: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Whether the first two columns agree in sign: nothing a linear model could tell."""
    features = np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)
    return features, (features[:, 0] * features[:, 1] > 0).astype(np.float32)


PLAN = Plan(hidden=(16,), members=3, epochs=60, batch=64, rate=2e-2)


def test_a_network_learns_what_a_line_cannot() -> None:
    features, labels = table()
    fresh, truth = table(seed=1)
    scaling = graphs.Scaling.fit(features, 8.0)

    def auc(plan: Plan) -> float:
        layers = fit_perceptrons(scaling.apply(features), labels, plan, 0)
        scores = predict(graphs.perceptron(scaling, layers), {"features": fresh})[:, 0]
        return roc_auc(truth.astype(np.int64), scores, np.ones(len(truth)))

    assert auc(PLAN) > 0.95
    assert auc(Plan(hidden=(), epochs=60, batch=64, rate=2e-2)) < 0.65


def test_the_same_seed_gives_the_same_layers() -> None:
    features, labels = table()
    first, again, other = (fit_perceptrons(features, labels, PLAN, seed) for seed in (0, 0, 1))
    for one, two, three in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one.weight, two.weight)
        assert not np.array_equal(one.weight, three.weight)
    assert parameters(first) == 3 * (4 * 16 + 16 + 16 + 1)


def test_members_differ() -> None:
    features, labels = table()
    weight = fit_perceptrons(features, labels, PLAN, 0)[0].weight
    assert not np.allclose(weight[0], weight[1])


def test_a_rate_that_breaks_it_is_an_error() -> None:
    features, labels = table()
    features[0, 0] = np.inf
    with pytest.raises(LossError, match="lower the rate"):
        fit_perceptrons(features, labels, PLAN, 0)
