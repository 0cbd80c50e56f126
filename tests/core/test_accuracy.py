import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from gearshift.core.accuracy import METRICS, average_precision, roc_auc, top1

ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(1, 9)), min_size=2, max_size=60
).filter(lambda rows: len({label for _, label, _ in rows}) == 2)


@pytest.mark.parametrize(
    ("ours", "reference"),
    [(average_precision, average_precision_score), (roc_auc, roc_auc_score)],
)
@given(rows=ROWS)
def test_agrees_with_scikit_learn_with_ties_and_weights(ours, reference, rows):
    scores, labels, weights = zip(*rows, strict=True)
    expected = reference(labels, np.array(scores, float), sample_weight=weights)
    assert ours([(s,) for s in scores], labels, weights) == pytest.approx(expected)


def test_top1_counts_weights():
    answers = [(0.1, 0.9), (0.8, 0.2), (0.3, 0.7)]
    assert top1(answers, [1, 0, 0], [1, 1, 2]) == 0.5


def test_one_kind_of_label_has_no_ranking():
    assert math.isnan(average_precision([(1.0,)], [0], [1.0]))
    assert math.isnan(roc_auc([(1.0,)], [1], [1.0]))
    assert math.isnan(top1([], [], []))


def test_every_metric_is_known_by_its_name():
    assert {"average_precision": average_precision, "roc_auc": roc_auc, "top1": top1} == METRICS
