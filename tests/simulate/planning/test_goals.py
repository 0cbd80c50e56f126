"""Goals: how they are written, whom they are for, and when a number of requests shows them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.errors import ConfigurationInvalid
from gearshift.simulate.mistakes import Mistakes
from gearshift.simulate.planning.goals import (
    Goal,
    Measure,
    Standing,
    Tally,
    enough_requests,
    judge,
    parse_wishes,
    resolve,
)

PAIRS = [("fraud", "realtime"), ("fraud", "batch"), ("tumor", "critical")]


def goals(*texts, measure=Measure.ATTAINMENT):
    mistakes = Mistakes()
    found = resolve(parse_wishes(measure, texts, mistakes), PAIRS, mistakes)
    mistakes.raise_if_any()
    return {goal.group: goal.least for goal in found}


def test_what_is_asked_of_everything_holds_for_each_class_that_is_not_named():
    assert goals("0.99") == {"fraud/realtime": 0.99, "fraud/batch": 0.99, "tumor/critical": 0.99}
    assert goals("0.99", "fraud/batch=0.5") == {
        "fraud/realtime": 0.99,
        "tumor/critical": 0.99,
        "fraud/batch": 0.5,
    }
    assert goals("0.99", "fraud=0.9") == {"tumor/critical": 0.99, "fraud": 0.9}
    assert goals("fraud=0.9", "fraud/batch=0.5") == {"fraud": 0.9, "fraud/batch": 0.5}
    assert goals("fraud=85", measure=Measure.SERVED) == {"fraud": 85.0}


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["high"], "--attainment: 'high' is not a goal; write for example 0.999"),
        (["=0.9"], "'=0.9' is not a goal"),
        (["fraud/=0.9"], "'fraud/=0.9' is not a goal"),
        (["nan"], "'nan' is not a goal"),
        (["99.9"], "give a share above 0 and below 1; 99.9 % is 0.999"),
        (["1"], "'1': give a share above 0 and below 1"),
        (["0.9", "0.8"], "'everything' has two goals; give one"),
        (["mail=0.9"], "no request is for 'mail'; there are requests for fraud, tumor, fraud/real"),
        (["fraud/edge=0.9"], "no request is for 'fraud/edge'"),
    ],
)
def test_mistakes(texts, told):
    with pytest.raises(ConfigurationInvalid) as raised:
        goals(*texts)
    assert told in str(raised.value)


def attained(served, requests, least=0.999):
    goal = Goal(Measure.ATTAINMENT, "fraud", None, least)
    return judge(goal, Tally(requests, served, 0.9 * served, 0.81 * served))


def test_attainment_holds_where_its_interval_does():
    assert attained(100_000, 100_000).standing is Standing.HOLDS
    assert attained(99_940, 100_000).standing is Standing.HOLDS
    # The share is above the goal, but what it was drawn from may well not be.
    assert attained(99_910, 100_000).standing is Standing.FAILS
    assert attained(99_000, 100_000).standing is Standing.FAILS


def test_too_few_requests_to_show_it_must_be_flawless():
    enough = enough_requests(0.999)
    assert attained(enough, enough).standing is Standing.HOLDS
    assert attained(enough - 1, enough - 1).standing is Standing.UNSHOWN
    assert attained(enough - 2, enough - 1).standing is Standing.FAILS


def test_accuracy_by_its_mean_and_spread():
    served = Goal(Measure.SERVED, "fraud", None, 0.9)
    assert judge(served, Tally(100, 50, 45.0, 40.5)).standing is Standing.HOLDS
    # Half 1, half 0.8: the mean of 100 is uncertain by 0.02.
    assert judge(served, Tally(100, 100, 90.0, 82.0)).standing is Standing.FAILS
    assert judge(served, Tally(100, 100, 90.0, 82.0)).low == pytest.approx(0.9 - 0.0196, abs=1e-4)
    effective = Goal(Measure.EFFECTIVE, "fraud", None, 0.9)
    verdict = judge(effective, Tally(100, 50, 45.0, 40.5))
    assert (verdict.value, verdict.standing) == (0.45, Standing.FAILS)
    assert judge(served, Tally(10, 0, 0.0, 0.0)).standing is Standing.FAILS


@given(st.integers(1, 10_000), st.data(), st.sampled_from([0.5, 0.9, 0.99, 0.999]))
def test_a_better_run_is_never_judged_worse(requests, data, least):
    served = data.draw(st.integers(0, requests - 1)) if requests > 1 else 0
    order = [Standing.FAILS, Standing.UNSHOWN, Standing.HOLDS]
    worse, better = (attained(count, requests, least) for count in (served, served + 1))
    assert order.index(better.standing) >= order.index(worse.standing)
    assert worse.low - 1e-12 <= worse.value <= worse.high + 1e-12
    looser = attained(served, requests, least * 0.9)
    assert order.index(looser.standing) >= order.index(worse.standing)
