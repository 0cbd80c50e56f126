"""The baselines: each keeps the promises that all keep, and chooses as its paper says."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.decisions import Dispatch, Refused
from gearshift.errors import BudgetInfeasible, ConfigurationInvalid, FloorUnreachable
from gearshift.simulate.policies import POLICIES, find_policy
from gearshift.simulate.policies.deadline_order import Queue, gather
from gearshift.simulate.policies.needs import Demand
from gearshift.simulate.policies.proteus import Proteus
from gearshift.simulate.runner import run
from simulating import make_scenario, run_policy, scenarios

BASELINES = sorted(set(POLICIES) - {"gearshift"})
GEARS = {
    "m": {"large": (0.9, 1.0, 3.0), "middle": (0.8, 1.0, 1.0), "small": (0.6, 0.5, 0.25)},
}


def offered(scenario, name):
    """The policy with every request of the scenario admitted, and its first decision."""
    policy = POLICIES[name](scenario.catalog, scenario.profiles, scenario.workers)
    tickets = scenario.workload.tickets(scenario.catalog, 1.0)
    verdicts = [policy.admit(ticket, 0.0) for ticket in tickets]
    if hasattr(policy, "plan"):
        policy.plan(0.0)
    actions = policy.decide(0.0).actions
    return verdicts, [
        (action.profile.variant.name, [ticket.id for ticket in action.tickets])
        for action in actions
        if isinstance(action, Dispatch)
    ]


def chosen(name, requests, **options):
    return offered(make_scenario(GEARS, requests, **options), name)[1]


@settings(max_examples=60)
@given(scenarios(), st.sampled_from(sorted(POLICIES)), st.sampled_from([1.0, 3.0]))
def test_without_noise_nobody_is_late_and_everybody_ends_once(scenario, name, speed_up):
    # Floors, busy workers and double answers are the runner's to judge; it raises.
    total = run_policy(scenario, name, speed_up=speed_up).total
    assert total.late == 0
    ended = total.served + total.late + total.shed + total.infeasible + total.expired
    assert ended == total.requests == len(scenario.workload)


@settings(max_examples=20)
@given(scenarios(), st.sampled_from(sorted(POLICIES)), st.integers(0, 3))
def test_with_noise_everybody_still_ends_once(scenario, name, seed):
    result = run_policy(scenario, name, noise=0.5, seed=seed)
    total = result.total
    ended = total.served + total.late + total.shed + total.infeasible + total.expired
    assert ended == total.requests
    assert sum(figures.requests for figures in result.per_model.values()) == total.requests
    answers = sum(count for counts in result.variants.values() for count in counts.values())
    assert answers == total.served + total.late


@pytest.mark.parametrize("name", BASELINES)
def test_what_no_variant_can_do_is_refused_at_the_door(name):
    requests = [(0.0, "m", 50.0, 0.95), (0.0, "m", 0.5, -math.inf)]
    (above, short), _ = offered(make_scenario(GEARS, requests), name)
    assert isinstance(above, Refused)
    assert isinstance(above.error, FloorUnreachable)
    assert isinstance(short, Refused)
    assert isinstance(short.error, BudgetInfeasible)


@pytest.mark.parametrize("name", BASELINES)
def test_a_cancelled_request_leaves_its_neighbours_alone(name):
    scenario = make_scenario(GEARS, [(0.0, "m", 50.0, -math.inf)] * 2)
    policy = POLICIES[name](scenario.catalog, scenario.profiles, scenario.workers)
    for ticket in scenario.workload.tickets(scenario.catalog, 1.0):
        policy.admit(ticket, 0.0)
    policy.cancel(0, 0.0)
    policy.cancel(0, 0.0)
    if hasattr(policy, "plan"):
        policy.plan(0.0)
    (action,) = policy.decide(0.0).actions
    assert [ticket.id for ticket in action.tickets] == [1]


def test_one_doomed_head_does_not_drag_the_others_along():
    scenario = make_scenario(GEARS, [(0.0, "m", due, -math.inf) for due in (1.5, 9.0, 9.5)])
    queue = Queue("m")
    for ticket in scenario.workload.tickets(scenario.catalog, 1.0):
        queue.add(ticket)
    large, middle, small = scenario.profiles.on("m", "cpu")
    # The head cannot wait for the middle variant; the others need not stoop to the small one.
    assert [t.id for t in gather(queue, middle, 0.0)[1]] == [1, 2]
    assert [t.id for t in gather(queue, small, 0.0)[1]] == [0, 1, 2]
    # The large one takes 7 s for both of the others, and from 2.5 on too long for the second.
    assert [t.id for t in gather(queue, large, 0.0)[1]] == [1, 2]
    assert [t.id for t in gather(queue, large, 2.5)[1]] == [1]
    assert gather(queue, large, 6.0) is None


def test_most_accurate_never_shifts_down_for_load():
    result = run_policy(make_scenario(GEARS, [(0.0, "m", 8.0, -math.inf)] * 6), "most-accurate")
    assert result.variants == {"m": {"large": 2}}
    assert result.total.expired == 4
    # Nor does it give a request what even an idle worker could not finish in time.
    assert chosen("most-accurate", [(0.0, "m", 2.0, -math.inf)]) == [("middle", [0])]


def test_fastest_gives_the_least_that_the_floor_allows():
    requests = [(0.0, "m", 50.0, -math.inf), (0.0, "m", 60.0, 0.7)]
    assert chosen("fastest", requests, workers=["cpu"] * 2) == [("small", [0]), ("middle", [1])]


def test_infaas_gives_the_cheapest_that_meets_deadline_and_floor():
    assert chosen("infaas", [(0.0, "m", 50.0, -math.inf)]) == [("small", [0])]
    assert chosen("infaas", [(0.0, "m", 50.0, 0.7)]) == [("middle", [0])]


def test_infaas_replicates_with_the_load():
    models = {"a": GEARS["m"], "b": GEARS["m"]}
    requests = [(0.01 * i, "a" if i % 10 else "b", 3.0, -math.inf) for i in range(1500)]
    scenario = make_scenario(models, requests, workers=["cpu"] * 10)
    policy = POLICIES["infaas"](scenario.catalog, scenario.profiles, scenario.workers)
    run(scenario, policy, "infaas")
    held = [seat.model for seat in policy._resident.values()]
    assert (held.count("a"), held.count("b")) == (9, 1)


def test_slackfit_takes_the_best_that_the_slack_allows():
    for budget, variant in ((50.0, "large"), (3.0, "middle"), (1.0, "small")):
        assert chosen("slackfit", [(0.0, "m", budget, -math.inf)]) == [(variant, [0])]


def test_slackfit_prefers_a_large_batch_in_the_same_bucket():
    # With all four waiting, the large variant takes 13 s, the middle one 5 s.
    assert chosen("slackfit", [(0.0, "m", 6.0, -math.inf)] * 4) == [("middle", [0, 1, 2, 3])]


def test_proteus_holds_one_variant_a_worker_and_shifts_with_the_demand():
    requests = [(0.5 * i, "m", 12.0, -math.inf) for i in range(60)]
    requests += [(100 + 10.0 * i, "m", 12.0, -math.inf) for i in range(10)]
    scenario = make_scenario(GEARS, requests, workers=["cpu"] * 2)
    policy = Proteus(scenario.catalog, scenario.profiles, scenario.workers, period=10.0)
    held = []
    planned = policy.plan

    def plan(now):
        planned(now)
        held.append((now, sorted(s.profile.variant.name for s in policy._resident.values() if s)))

    policy.plan = plan
    result = run(scenario, policy, "proteus")
    busy = dict(held)[21.0]
    assert "large" not in busy
    assert held[-1][1] == ["large", "large"]
    assert result.plan_ms.calls == len(held)
    assert result.total.attainment > 0.9


def test_proteus_keeps_floors_when_the_plan_has_no_seat_for_them():
    requests = [(0.1 * i, "m", 12.0, -math.inf) for i in range(30)] + [(9.0, "m", 40.0, 0.9)]
    scenario = make_scenario(GEARS, requests)
    total = run_policy(scenario, "proteus").total
    assert total.served + total.expired == len(requests)


def test_floors_between_the_same_two_variants_are_one_need():
    scenario = make_scenario(
        GEARS, [(0.0, "m", 5.0, floor) for floor in (-math.inf, 0.6, 0.61, 0.7, 0.8, 0.9)]
    )
    demand = Demand(scenario.catalog, memory=1.0)
    tickets = scenario.workload.tickets(scenario.catalog, 1.0)
    needs = [demand.need_of(ticket)[1] for ticket in tickets]
    assert needs == [0.6, 0.6, 0.8, 0.8, 0.8, 0.9]


def test_an_unknown_policy_names_the_known_ones():
    with pytest.raises(ConfigurationInvalid, match="gearshift, most-accurate, fastest, infaas"):
        find_policy("best")


def test_a_policy_that_needs_scipy_says_so_where_it_is_missing(monkeypatch):
    monkeypatch.setattr("gearshift.simulate.extra.find_spec", lambda module: None)
    with pytest.raises(ConfigurationInvalid, match=r"proteus needs SciPy.*gearshift\[simulate\]"):
        find_policy("proteus")
    assert find_policy("slackfit")
