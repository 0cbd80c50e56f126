"""Every request of a tick is as likely to be taken as any other."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from builders import make_model
from gearshift.core.catalog import TensorSpec
from gearshift.drift.features import Features
from gearshift.drift.reservoir import Reservoir
from gearshift.ports import Batch, Row

MODEL = make_model()
FEATURES = Features(TensorSpec("x", "FP32", (1,)))


def batch(values: list[list[float]], gap: int = 0) -> Batch:
    """Requests with such rows; `gap` rows before each are nobody's."""
    rows, requests = [], []
    for each in values:
        rows += [-1.0] * gap
        requests.append(Row(b"", "default", len(rows), len(each)))
        rows += each
    inputs = np.array(rows, np.float32).reshape(-1, 1)
    return Batch(MODEL, MODEL.variants[0], "", {"x": inputs}, {}, requests)


def reservoir(size: int, seed: int = 0) -> Reservoir:
    return Reservoir("x", FEATURES, size, random.Random(seed).random)


def taken(made: Reservoir) -> list[float]:
    return [float(row[0]) for row in made.rows]


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 30), st.integers(0, 1_000))
def test_it_takes_as_many_as_it_may_none_twice_and_only_what_was_there(sizes, size, seed):
    made = reservoir(size, seed)
    offered = iter(range(1_000))
    for count in sizes:
        made.offer(batch([[float(next(offered))] for _ in range(count)], gap=2))
    assert made.seen == sum(sizes)
    found = taken(made)
    assert len(found) == len(set(found)) == min(size, sum(sizes))
    assert set(found) <= set(map(float, range(sum(sizes))))


@pytest.mark.parametrize("sizes", [[1] * 60, [60], [7, 1, 30, 2, 20]])
def test_all_requests_are_alike_wherever_they_stand(sizes):
    counted: Counter[float] = Counter()
    source = random.Random(8).random
    for _ in range(2_000):
        made = Reservoir("x", FEATURES, 5, source)
        at = 0
        for count in sizes:
            made.offer(batch([[float(at + n)] for n in range(count)]))
            at += count
        counted.update(taken(made))
    assert len(counted) == 60
    assert stats.chisquare([counted[float(n)] for n in range(60)]).pvalue > 0.001


def test_of_a_request_with_many_rows_each_is_as_likely():
    counted: Counter[float] = Counter()
    source = random.Random(9).random
    for _ in range(2_000):
        made = Reservoir("x", FEATURES, 1, source)
        made.offer(batch([[0.0, 1.0, 2.0, 3.0]], gap=3))
        counted.update(taken(made))
    assert stats.chisquare([counted[float(n)] for n in range(4)]).pvalue > 0.001


def test_rows_are_copied():
    """Inputs may lie in memory that is used again."""
    made, shared = reservoir(3), batch([[5.0]])
    made.offer(shared)
    shared.inputs["x"][:] = 9.0
    assert taken(made) == [5.0]


@pytest.mark.parametrize("drawn", [0.0, 1.0 - 2**-53])
def test_the_ends_of_what_random_gives_break_nothing(drawn):
    made = Reservoir("x", FEATURES, 2, lambda: drawn)
    for _ in range(50):
        made.offer(batch([[1.0], [2.0, 3.0]]))
    assert len(made.rows) == 2
