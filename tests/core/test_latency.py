"""What is learned about latency: quickly, per batch size, and forgotten when nothing runs."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import make_model
from gearshift.core.latency import FORGET_AFTER, FORGET_EVERY, HICCUP, Learner
from gearshift.core.profile import LatencyPoint, Profile

P99_OF_NOISE = 1.123
"""The p99 of a lognormal factor of mean 1 and a coefficient of variation of 5 %, in p50s."""


def tables(batch: int = 16, per_row: float = 0.001, fixed: float = 0.004):
    p50s = [0.0] + [fixed + per_row * rows for rows in range(1, batch + 1)]
    return p50s, [seconds * P99_OF_NOISE for seconds in p50s]


def noisy(rng: random.Random) -> float:
    return rng.lognormvariate(-0.00125, 0.05)


def watch(
    learner: Learner, p50s, rng, factor: float, runs: int, now: float = 0.0, sizes=(1, 4, 16)
):
    for _ in range(runs):
        rows = rng.choice(sizes)
        now += 0.01
        learner.observe(rows, p50s[rows] * factor * noisy(rng), now)
    return now


@pytest.mark.parametrize("seed", range(20))
def test_after_a_step_the_p99_is_right_within_50_runs_and_so_it_is_after_the_step_back(seed):
    p50s, p99s = tables()
    learner, rng = Learner(p50s, p99s), random.Random(seed)
    now = watch(learner, p50s, rng, 1.0, 100)
    for factor in (3.0, 1.0):
        now = watch(learner, p50s, rng, factor, 50, now)
        for rows in (1, 4, 16):
            assert learner.tables()[1][rows] == pytest.approx(factor * p99s[rows], rel=0.2)


def test_a_slow_down_is_urgent_at_once_and_noise_never_is():
    p50s, p99s = tables()
    learner, rng = Learner(p50s, p99s), random.Random(1)
    for step in range(300):
        assert not learner.observe(4, p50s[4] * noisy(rng), step * 0.01)
        assert not learner.settle(step * 0.01)
    urgent = [learner.observe(4, 3 * p50s[4] * noisy(rng), 3 + step * 0.01) for step in range(3)]
    assert any(urgent)


def test_one_hiccup_is_no_tail():
    p50s, p99s = tables()
    learner, rng = Learner(p50s, p99s), random.Random(1)
    now = watch(learner, p50s, rng, 1.0, 100)
    learner.observe(4, 20 * p50s[4], now)
    now = watch(learner, p50s, rng, 1.0, 20, now)
    assert learner.tables()[1][4] < 1.3 * p99s[4]


def test_each_size_has_its_own_factor():
    p50s, p99s = tables()
    learner = Learner(p50s, p99s)
    for step in range(200):
        learner.observe(1, p50s[1], step * 0.01)
        learner.observe(16, 2 * p50s[16], step * 0.01)
    learned, _ = learner.tables()
    assert learned[1] == pytest.approx(p50s[1], rel=0.1)
    assert learned[16] == pytest.approx(2 * p50s[16], rel=0.1)


def test_a_variant_that_is_no_longer_run_gets_another_chance():
    p50s, p99s = tables()
    learner, rng = Learner(p50s, p99s), random.Random(1)
    now = watch(learner, p50s, rng, 10.0, 60)
    assert learner.tables()[1][4] > 8 * p99s[4]
    assert not learner.settle(now + FORGET_AFTER / 2)
    changed = [learner.settle(now + FORGET_AFTER + 0.1 * step) for step in range(400)]
    assert any(changed)
    assert learner.tables()[1][4] < 1.5 * p99s[4]


@given(st.lists(st.tuples(st.integers(1, 16), st.floats(1e-6, 1e3, allow_nan=False)), max_size=120))
def test_the_tables_never_fall_as_the_batch_grows(runs):
    p50s, p99s = tables()
    learner = Learner(p50s, p99s)
    for step, (rows, seconds) in enumerate(runs):
        learner.observe(rows, seconds, step * 0.1)
    learned50, learned99 = learner.tables()
    assert learned50 == sorted(learned50)
    assert learned99 == sorted(learned99)
    assert all(b >= a for a, b in zip(learned50, learned99, strict=True))


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_cannot_be_is_not_learned(seconds):
    p50s, p99s = tables()
    learner = Learner(p50s, p99s)
    assert not learner.observe(4, seconds, 0.0)
    assert learner.tables() == (p50s, pytest.approx(p99s, rel=0.03))


def test_a_profile_follows_what_is_observed_and_a_fresh_copy_does_not():
    profile = Profile(make_model().variants[0], "cpu", [LatencyPoint(1, 0.01, 0.011)], 8)
    before = profile.p99(1)
    for step in range(60):
        profile.observe(1, 0.05, step * 0.1)
    profile.settle(6.0)
    assert profile.p50(1) == pytest.approx(0.05, rel=0.05)
    assert profile.fresh().p99(1) == before


def test_runs_of_microseconds_that_waited_for_a_core_do_not_shut_everybody_out():
    """Two in fifty that take ten milliseconds are no reason to refuse budgets of ten."""
    p50s, p99s = [0.0, 20e-6], [0.0, 30e-6]
    learner = Learner(p50s, p99s)
    for step in range(100):
        learner.observe(1, 0.010 if step % 10 == 0 else 25e-6, step * 0.01)
    p50, p99 = (table[1] for table in learner.tables())
    assert p50 < 0.001
    assert p99 <= p50 + HICCUP + 1e-12


def test_what_was_wide_offline_may_be_wide():
    learner = Learner([0.0, 0.001], [0.0, 0.010])
    assert learner.tables()[1][1] == pytest.approx(0.010, rel=0.05)


def test_what_keeps_others_from_being_tried_is_forgotten_first():
    p50s, p99s = tables()
    learner = Learner(p50s, p99s)
    for step in range(3):
        learner.observe(1, 1.5 * p50s[1], step * 0.01)
    wide = learner.tables()[1][1]
    now = 0.03 + FORGET_AFTER
    for _ in range(4):
        now += FORGET_EVERY
        learner.settle(now)
    assert wide > 1.3 * p99s[1]
    assert learner.tables()[1][1] < 1.1 * p99s[1]
