"""The population stability index, its law, and the alarm, against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gearshift.core.drift import BEGINS, CHANCE, ENDS, Alarm, Shift, chi_square_tail, shift


@given(st.floats(0.0, 1_300.0), st.integers(1, 63))
def test_the_tail_is_that_of_scipy(x, freedom):
    """Beyond, the exponential has fewer digits than a number should, and nobody asks."""
    assert chi_square_tail(x, freedom) == pytest.approx(stats.chi2.sf(x, freedom), rel=1e-7)


def test_far_out_the_tail_is_nothing():
    assert chi_square_tail(1e6, 11) == chi_square_tail(1e6, 12) == 0.0


def test_the_index_is_the_textbooks_where_samples_are_large():
    """Small numbers worked out by hand: (0.5 - 0.4) ln(0.5 / 0.4) + (0.5 - 0.6) ln(0.5 / 0.6)."""
    expected = 0.1 * math.log(0.5 / 0.4) - 0.1 * math.log(0.5 / 0.6)
    found = shift((0.4, 0.6), 1e9, (500_000_000, 500_000_000))
    assert found.psi == pytest.approx(expected, rel=1e-6)
    assert found.chance == 0.0


cells = st.integers(2, 12).flatmap(
    lambda count: st.tuples(
        st.lists(st.integers(0, 50), min_size=count, max_size=count).filter(any),
        st.lists(st.integers(0, 500), min_size=count, max_size=count),
    )
)


@given(cells, st.floats(50, 1e6))
def test_whatever_the_counts_it_is_a_distance_and_a_probability(found, size):
    then, now = found
    shares = [each / sum(then) for each in then]
    moved = shift(shares, size, now)
    assert 0.0 <= moved.psi < math.inf
    assert 0.0 <= moved.chance <= 1.0
    if moved.chance > 0.5:
        assert moved.psi < 1e-9 + 12 * (1 / max(1, sum(now)) + 1 / size)


@given(cells, st.integers(0, 11))
def test_an_empty_cell_says_nothing_and_their_order_does_not_matter(found, at):
    then, now = found
    shares = [each / sum(then) for each in then]
    at = min(at, len(now))
    more = shift([*shares[:at], 0.0, *shares[at:]], 500, [*now[:at], 0, *now[at:]])
    back = shift(shares[::-1], 500, now[::-1])
    assert more == shift(shares, 500, now)
    assert back == pytest.approx(more)


def test_samples_of_one_population_follow_the_law():
    """Mean near 0 once corrected, and chances evenly spread (Kolmogorov and Smirnov)."""
    rng = np.random.default_rng(1)
    share = np.array([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05])
    moved = [
        shift(rng.multinomial(900, share) / 900, 900, rng.multinomial(2_000, share).tolist())
        for _ in range(1_000)
    ]
    assert stats.kstest([each.chance for each in moved], "uniform").pvalue > 0.01
    assert np.mean([each.psi for each in moved]) < 0.3 * 7 * (1 / 900 + 1 / 2_000)


def test_without_the_correction_a_small_sample_would_look_drifted():
    rng = np.random.default_rng(2)
    counts = [rng.multinomial(200, [0.1] * 10) for _ in range(300)]
    raw = [sum((c / 200 - 0.1) * math.log(max(c, 0.5) / 20) for c in each) for each in counts]
    moved = [shift([0.1] * 10, 100, each.tolist()).psi for each in counts]
    assert np.mean(raw) > 0.04
    assert np.mean(moved) < 0.01
    assert max(moved) < ENDS


def moved(psi: float, chance: float = 0.0) -> Shift:
    return Shift(psi, chance)


def test_an_alarm_begins_at_the_upper_level_and_ends_below_the_lower():
    alarm = Alarm()
    said = []
    for psi in (0.0, ENDS, BEGINS - 0.001, BEGINS, ENDS, BEGINS, ENDS - 0.001, ENDS, BEGINS):
        changed = alarm.judge([moved(0.0), moved(psi)])
        said.append((alarm.drifted, changed))
    no, begins, goes_on, ends = (False, False), (True, True), (True, False), (False, True)
    assert said == [no, no, no, begins, goes_on, goes_on, ends, no, begins]


def test_what_may_be_chance_is_no_alarm_and_many_features_have_many_chances():
    alarm = Alarm()
    alarm.judge([moved(1.0, CHANCE * 1.1)])
    assert not alarm.drifted
    alarm.judge([moved(1.0, CHANCE * 0.9), moved(0.0, 1.0)])
    assert not alarm.drifted
    alarm.judge([moved(1.0, CHANCE * 0.9)])
    assert alarm.drifted
