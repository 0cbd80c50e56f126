"""Cascades in virtual time: who goes on, who answers in the end, and what is counted."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.cascade import with_cascades
from gearshift.core.catalog import Cascade, Catalog
from gearshift.core.decisions import Admitted, Decisions, Dispatch, Drop, Refused
from gearshift.errors import DeadlineExpired, Overloaded
from gearshift.simulate.policies.gearshift import Gearshift
from gearshift.simulate.policy import ContractBroken
from gearshift.simulate.runner import run
from simulating import MODELS, make_scenario, run_policy, scenarios

ONE = {"m": {"large": (0.9, 0.0, 4.0), "small": (0.5, 0.0, 1.0)}}
BOTH = Cascade(
    name="both", first="small", then="large", threshold=0.9, escalated=1.0, accuracy=0.85
)
FREE = -math.inf


def cascading(scenario, **cascades):
    """The scenario with a cascade for each model that is named."""
    models = {
        name: replace(model, cascades=(cascades[name],)) if name in cascades else model
        for name, model in scenario.catalog.models.items()
    }
    return replace(scenario, catalog=Catalog(1, models))


def make(requests, escalated=1.0):
    return cascading(make_scenario(ONE, requests), m=replace(BOTH, escalated=escalated))


class Pinning:
    """Gives everybody to the cascade, and who goes on to its second variant, one by one."""

    def __init__(self, scenario):
        self.model = scenario.catalog.models["m"]
        profiles = with_cascades(self.model, scenario.profiles.everywhere("m"))
        self.by_name = {profile.variant.name: profile for profile in profiles}
        self.waiting, self.busy, self.count = [], False, 0

    def admit(self, ticket, now):
        self.waiting.append(ticket)
        return Admitted()

    def finished(self, dispatch_id, now, measured):
        self.busy = False

    def decide(self, now):
        if self.busy or not self.waiting:
            return Decisions((), math.inf)
        self.busy, self.count = True, self.count + 1
        ticket = self.waiting.pop(0)
        profile = self.by_name[ticket.variant or "both"]
        return Decisions(
            (Dispatch(self.count, 0, self.model, profile, (ticket,), ticket.rows),), math.inf
        )


def pinned(requests, policy=Pinning, **options):
    scenario = make(requests, **options)
    return run(scenario, policy(scenario), "pinned")


def test_who_goes_on_is_answered_by_the_second_with_what_the_whole_is_worth():
    result = pinned([(0.0, "m", 6.0, FREE)])
    assert result.variants == {"m": {"both/then": 1}}
    assert result.total.mean_served_accuracy == pytest.approx(0.85)
    # One worker, busy for 1 and then for 4 seconds of 5.
    assert result.total.utilisation == pytest.approx(1.0)


def test_who_is_sure_has_the_answer_after_the_first_run():
    result = pinned([(0.0, "m", 1.5, FREE)], escalated=0.0)
    assert result.variants == {"m": {"both/first": 1}}
    assert result.total.served == 1
    assert result.total.mean_served_accuracy == pytest.approx(0.85)


class Refusing(Pinning):
    def admit(self, ticket, now):
        if ticket.fallback:
            return Refused(Overloaded("full", 1.0))
        return super().admit(ticket, now)


class Dropping(Pinning):
    def decide(self, now):
        drops = [Drop(t, DeadlineExpired("gone")) for t in self.waiting if t.fallback]
        self.waiting = [t for t in self.waiting if not t.fallback]
        actions = super().decide(now).actions
        return Decisions((*drops, *actions), math.inf)


@pytest.mark.parametrize(
    ("policy", "budget"),
    [(Refusing, 2.0), (Dropping, 2.0), pytest.param(Pinning, 4.5, id="late")],
)
def test_the_first_answer_is_in_time_where_the_second_is_not(policy, budget):
    result = pinned([(0.0, "m", budget, FREE)] * 2, policy)
    assert result.variants == {"m": {"both/fallback": 2}}
    assert result.total.served == 2
    assert result.total.mean_served_accuracy == pytest.approx(0.5)


def test_a_first_answer_after_the_deadline_is_late():
    result = pinned([(0.0, "m", 0.5, FREE)], Refusing)
    assert (result.total.late, result.variants) == (1, {"m": {"both/fallback": 1}})


def test_no_cascade_for_who_does_not_accept_its_first_variant():
    with pytest.raises(ContractBroken, match="at least 0.6"):
        pinned([(0.0, "m", 50.0, 0.6)])


def test_as_many_go_on_as_the_cascade_says_and_the_same_whatever_the_policy():
    requests = [(10.0 * number, "m", 9.0, FREE) for number in range(2_000)]
    result = pinned(requests, escalated=0.3)
    assert result.variants["m"]["both/then"] == pytest.approx(600, abs=60)
    refused = pinned(requests, Refusing, escalated=0.3)
    assert refused.variants["m"]["both/fallback"] == result.variants["m"]["both/then"]


@settings(max_examples=60)
@given(scenarios(12), st.floats(0.0, 1.0), st.floats(0.8, 0.95), st.integers(0, 3))
def test_everybody_is_answered_once_and_none_below_the_floor(scenario, share, accuracy, seed):
    # The runner ends the simulation if not.
    cascade = replace(BOTH, escalated=share, accuracy=accuracy)
    policies = [
        Gearshift(each.catalog, each.profiles, each.workers)
        for each in [cascading(scenario, a=cascade)] * 2
    ]
    for policy in policies:
        policy.plan_every = 0.5
    results = [
        run(cascading(scenario, a=cascade), policy, "", noise=0.3, seed=seed) for policy in policies
    ]
    assert results[0].total == results[1].total
    assert results[0].total.requests == len(scenario.workload)


def test_where_nobody_has_a_cascade_nothing_is_drawn():
    scenario = make_scenario(MODELS, [(float(i), "a", 8.5, FREE) for i in range(40)])
    result = run_policy(scenario, "gearshift", noise=0.3)
    assert not any("/" in name for name in result.variants["a"])
