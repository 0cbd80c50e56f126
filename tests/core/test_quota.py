"""Who may send how much."""

from __future__ import annotations

import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.quota import NAMED, SLOTS, Bucket, Limits, Quotas, Rate

TEN = Rate(rows=10.0, burst=5.0)


def table():
    return array("d", bytes(8 * SLOTS))


def quotas(**limits):
    return Quotas(Limits(**limits), table(), b"key")


def test_a_burst_passes_and_then_the_rate():
    bucket = Bucket(TEN, [0.0], 0)
    assert [bucket.take(1, 100.0) for _ in range(5)] == [0.0] * 5
    assert bucket.take(1, 100.0) == pytest.approx(0.1)
    assert bucket.wait(100.0) == pytest.approx(0.1)
    assert bucket.take(1, 100.1 + 1e-9) == 0.0
    assert bucket.take(1, 100.1 + 1e-9) > 0.0


def test_a_request_above_the_burst_passes_when_the_bucket_is_full_and_is_owed():
    bucket = Bucket(TEN, [0.0], 0)
    assert bucket.take(1, 1.0) == 0.0
    # In a tenth of a second the bucket is full, which is all that can be waited for.
    assert bucket.take(100, 1.0) == pytest.approx(0.1)
    assert bucket.take(100, 1.1 + 1e-9) == 0.0
    assert bucket.take(1, 1.2) == pytest.approx(10.0 - 0.1 + 0.1 - 0.5, abs=1e-6)


@given(
    st.lists(st.tuples(st.floats(0, 2), st.integers(1, 8)), max_size=60),
    st.floats(0.1, 50),
    st.floats(1, 20),
)
def test_never_more_than_rate_and_burst_allow(steps, rows, burst):
    """Between any two moments, of requests that are not above the burst; and who waits as long as
    he is told is taken."""
    bucket, now, taken = Bucket(Rate(rows, burst), [0.0], 0), 10.0, []
    for pause, size in steps:
        now += pause
        wait = bucket.take(size, now)
        if wait:
            now += wait + 1e-9
            assert bucket.take(size, now) == 0.0
        taken.append((now, size))
    most = max([size for _, size in taken], default=0)
    for first in range(len(taken)):
        total = 0
        for moment, size in taken[first:]:
            total += size
            assert total <= burst + most + rows * (moment - taken[first][0]) + 1e-3


def test_each_client_has_its_own_and_who_is_not_named_the_default():
    held = quotas(default=Rate(1.0, 1.0), clients={"big": TEN})
    for client, burst in (("big", 5), ("one", 1), ("two", 1)):
        for _ in range(burst):
            assert held.take(client, "m", "c", 1, 5.0) is None
        over = held.take(client, "m", "c", 1, 5.0)
        assert over is not None
        assert (over.whose, over.client) == (f"client {client!r}", "big" * (client == "big"))
        assert held.spent(client, 5.0) == over
    assert held.spent("three", 5.0) is None


def test_without_a_default_only_those_of_the_file_are_limited():
    held = quotas(clients={"big": TEN})
    assert all(held.take("other", "m", "c", 10**6, 5.0) is None for _ in range(9))
    assert held.spent("other", 5.0) is None


def test_a_class_is_shared_by_all_and_costs_nobody_its_own_tokens():
    held = quotas(clients={"a": TEN, "b": TEN}, classes={("m", "c"): Rate(1.0, 1.0)})
    assert held.take("a", "m", "c", 1, 5.0) is None
    over = held.take("b", "m", "c", 1, 5.0)
    assert over is not None
    assert (over.whose, over.client) == ("class 'c' of model 'm'", "")
    assert [held.take("b", "m", "other", 1, 5.0) for _ in range(5)] == [None] * 5
    assert held.take("b", "n", "c", 1, 5.0) is not None


def test_processes_that_share_a_table_share_the_quotas():
    shared, limits = table(), Limits(default=TEN, clients={"a": TEN})
    first, second = (Quotas(limits, shared, b"key") for _ in range(2))
    for client in ("a", "whoever"):
        taken = [each.take(client, "m", "c", 1, 5.0) for each in (first, second) * 3]
        assert [each is None for each in taken] == [True] * 5 + [False]


def test_callers_cannot_write_into_the_slots_of_the_file():
    shared = table()
    held = Quotas(Limits(default=TEN, clients={"a": TEN}), shared)
    for number in range(2_000):
        held.take(f"client {number}", "m", "c", 1, 5.0)
    assert not any(shared[:NAMED])
    assert math.isclose(sum(map(bool, shared)), 2_000, rel_tol=0.02)
