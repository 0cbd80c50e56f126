"""The smallest fleet and the cheapest choice: found whatever pods do, and monotone."""

import math
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.simulate.planning.choice import choose
from gearshift.simulate.planning.fleet import Fleet, Sizing, Unmet
from gearshift.simulate.planning.goals import Goal, Measure, Standing, Tally, Verdict
from gearshift.simulate.planning.trial import Conditions, Trial, simulate, simulate_idle
from planning import MODELS, attainment, make_kind, make_pod, make_traffic

LOOSE = [attainment(0.5), attainment(0.5, "tumor")]
MORE = {"mail": {"only": (0.9, 0.001, 0.001)}}


def trial(pod, pods, holds, answers=None):
    standing = Standing.HOLDS if holds else Standing.FAILS
    value = 1.0 if holds else 0.4
    verdict = Verdict(LOOSE[0], value, value, 1.0, 100, standing)
    every = {m: {v: 1 for n, v in pod.variants if n == m} for m in pod.catalog.models}
    return Trial(
        pods=pods,
        simulated=100,
        verdicts=(verdict,),
        busy={},
        door=0.0,
        answers=every if answers is None else answers,
        tallies={f"{m}/default": Tally(1, 1, 0.9, 0.81) for m in pod.catalog.models},
    )


class Pods:
    """Pods that hold the goals from so many on, by kind and models; remembers what was tried."""

    def __init__(self, needed, idle=True):
        self.needed = needed
        self.idle = idle
        self.tried = []

    def attempt(self, pod, pods):
        self.tried.append((pod.kind.name, pods))
        return trial(pod, pods, pods >= self.needed(pod))

    def alone(self, pod):
        found = trial(pod, 0, self.idle)
        return (
            found
            if self.idle
            else replace(found, verdicts=(replace(found.verdicts[0], high=0.45),))
        )

    def sizing(self, spare=0, most=200):
        traffic = make_traffic({"fraud": 20, "tumor": 2})
        return Sizing(
            traffic, LOOSE, door=0.0, spare=spare, most=most, attempt=self.attempt, idle=self.alone
        )


@given(st.integers(1, 150), st.integers(0, 3))
def test_the_smallest_number_that_holds(needed, spare):
    pods = Pods(lambda pod: needed)
    fleet = pods.sizing(spare).size(make_pod(make_kind()), 1)
    assert (fleet.pods, fleet.spare, fleet.trial.pods) == (needed, spare, needed)
    assert fleet.whole.pods == needed + spare
    assert fleet.price == pytest.approx(0.05 * (needed + spare))
    if needed > 1:
        assert (fleet.fewer.pods, fleet.fewer.holds) == (needed - 1, False)
    else:
        assert fleet.fewer is None
    # Doubling, then halving: few are tried, and none twice.
    assert len(pods.tried) == len(set(pods.tried)) <= 4 + 2 * math.log2(needed + 1)


def test_what_is_never_enough_is_said():
    found = Pods(lambda pod: 1000).sizing(most=50).size(make_pod(make_kind()), 1)
    assert isinstance(found, Unmet)
    assert (
        "with 50 small pods the attainment of fraud/default is 0.4000" in found.reasons[0].sentence
    )
    pods = Pods(lambda pod: 1000, idle=False)
    found = pods.sizing().size(make_pod(make_kind()), 1)
    assert "on an idle one" in found.reasons[0].sentence
    assert max(count for _, count in pods.tried) < 10


PRICES = st.sampled_from([0.05, 0.07, 0.1, 0.4])
NEEDS = st.fixed_dictionaries({name: st.integers(1, 6) for name in ("fraud", "tumor", "mail")})


def kinds(prices):
    variants = {**MODELS, **MORE}
    return {
        f"kind-{n}": make_pod(make_kind(f"kind-{n}", price=price), variants)
        for n, price in enumerate(prices)
    }


def chosen(prices, needs, spare=0, together=False):
    """`needs` by kind: how many pods each model fills."""
    pods = Pods(lambda pod: sum(needs[int(pod.kind.name[-1])][m] for m in pod.catalog.models))
    models = ("fraud", "tumor", "mail")
    return choose(kinds(prices), models, pods.sizing(spare), spare, together=together), pods


@settings(max_examples=25, deadline=None)
@given(st.lists(PRICES, min_size=1, max_size=3), st.data(), st.integers(0, 2))
def test_no_answer_is_cheaper(prices, data, spare):
    needs = [data.draw(NEEDS) for _ in prices]
    plan, _ = chosen(prices, needs, spare)
    costs = []
    for answer in product(range(len(prices)), repeat=3):
        used = zip(("fraud", "tumor", "mail"), answer, strict=True)
        pods: dict[int, int] = {}
        for model, kind in used:
            pods[kind] = pods.get(kind, 0) + needs[kind][model]
        costs.append(sum(prices[k] * (count + spare) for k, count in pods.items()))
    assert plan.price == pytest.approx(min(costs))
    held = sorted(m for fleet in plan.fleets for m in fleet.pod.catalog.models)
    assert held == ["fraud", "mail", "tumor"]
    alone, _ = chosen(prices, needs, spare, together=True)
    assert len(alone.fleets) == 1
    assert alone.price >= plan.price - 1e-9


@settings(max_examples=15, deadline=None)
@given(st.lists(PRICES, min_size=2, max_size=2), st.data())
def test_a_cheaper_or_smaller_need_never_costs_more(prices, data):
    needs = [data.draw(NEEDS) for _ in prices]
    price = chosen(prices, needs)[0].price
    kind = data.draw(st.integers(0, 1))
    fewer = [dict(need) for need in needs]
    fewer[kind]["fraud"] = max(1, fewer[kind]["fraud"] - 1)
    assert chosen(prices, fewer)[0].price <= price + 1e-9
    cheaper = list(prices)
    cheaper[kind] /= 2
    assert chosen(cheaper, needs)[0].price <= price + 1e-9
    assert chosen(prices, needs, spare=1)[0].price >= price


def test_what_one_kind_cannot_the_other_does():
    pods = kinds([0.01, 0.1])
    # Nobody answers tumor within 250 ms on the cheap one.
    slow = make_pod(
        make_kind("kind-0", price=0.01), {**MODELS, **MORE, "tumor": {"only": (0.95, 0.5, 0.1)}}
    )
    sizing = Pods(lambda pod: len(pod.catalog.models)).sizing()
    plan = choose({**pods, "kind-0": slow}, ("fraud", "tumor", "mail"), sizing, 0, together=False)
    where = {m: f.pod.kind.name for f in plan.fleets for m in f.pod.catalog.models}
    assert where == {"fraud": "kind-0", "mail": "kind-0", "tumor": "kind-1"}
    alone = {kind.pod.kind.name: kind.found for kind in plan.kinds}
    assert "nothing answers tumor/default within 250 ms" in alone["kind-0"].reasons[0].sentence


# --- with the scheduler itself ----------------------------------------------------------------


def really(pod, traffic, goals, spare=0, requests=2_000):
    given = {
        "traffic": traffic,
        "goals": goals,
        "conditions": Conditions(seeds=1, requests=requests, noise=0.05),
        "on_progress": lambda *_: None,
    }
    return Sizing(
        traffic,
        goals,
        door=95e-6,
        spare=spare,
        most=30,
        attempt=lambda pod, pods: simulate(pod, pods, **given),
        idle=lambda pod: simulate_idle(pod, **given),
    ).size(pod, 1)


def served(least, model="fraud"):
    return Goal(Measure.SERVED, model, None, least)


def test_more_workers_need_no_more_pods_and_looser_goals_neither():
    traffic = make_traffic({"fraud": 700}, seconds=4)
    strict = [attainment(0.97), served(0.88)]

    def needed(workers, goals):
        found = really(make_pod(make_kind(workers=workers)), traffic, goals)
        assert isinstance(found, Fleet)
        assert found.fewer is None or not found.fewer.holds
        assert found.bound <= found.pods
        return found.pods

    one, two, four = (needed(workers, strict) for workers in (1, 2, 4))
    assert one >= two >= four
    assert one > four
    assert needed(1, [attainment(0.8)]) <= needed(1, [attainment(0.97)]) <= one


def test_spare_pods_hold_the_goals_when_they_are_gone():
    traffic = make_traffic({"fraud": 700}, seconds=4)
    goals = [attainment(0.97), served(0.88)]
    alone, spared = (really(make_pod(make_kind()), traffic, goals, spare) for spare in (0, 2))
    assert (spared.pods, spared.spare) == (alone.pods, 2)
    assert spared.whole.busy["cpu"] < spared.trial.busy["cpu"]
    assert spared.price == pytest.approx(alone.price + 2 * 0.05)


def test_variants_without_room_go_and_those_without_work_too():
    traffic = make_traffic({"fraud": 60, "tumor": 4}, seconds=10, budgets={"fraud": 0.1})
    goals = [attainment(0.9), attainment(0.9, "tumor")]
    memory = {("fraud", "large"): 300.0, ("fraud", "small"): 50.0, ("tumor", "only"): 200.0}
    roomy = really(make_pod(make_kind(memory=1000.0), memory=memory), traffic, goals)
    assert roomy.no_room == ()
    tight = really(make_pod(make_kind(memory=400.0), memory=memory), traffic, goals)
    assert tight.no_room == (("fraud", "large"),)
    assert tight.pod.variants == (("fraud", "small"), ("tumor", "only"))
    assert tight.pod.needed == 350.0
    # Accuracy that only the variant without room has.
    unmet = really(
        make_pod(make_kind(memory=400.0), memory=memory), traffic, [*goals, served(0.85)]
    )
    assert isinstance(unmet, Unmet)
    assert "(without fraud/large, which have no room)" in unmet.reasons[0].sentence
    none = really(make_pod(make_kind(memory=200.0), memory=memory), traffic, goals)
    assert "fraud, tumor do not fit into the 200 MB of a small pod" in none.reasons[0].sentence
    floor = make_traffic({"fraud": 60}, seconds=10, floors={"fraud": 0.85})
    idle = really(make_pod(make_kind(), {"fraud": MODELS["fraud"]}), floor, [attainment(0.97)])
    assert idle.idle == (("fraud", "small"),)


@pytest.mark.parametrize(
    ("goal", "options", "told"),
    [
        (
            attainment(0.9),
            {"budgets": {"fraud": 0.001}},
            "100 % of the requests of fraud/default cannot be answered by any number of small pods:"
            " nothing answers fraud/default within 1 ms there; what would work: a budget of 2.2 ms"
            " (small)",
        ),
        (
            attainment(0.9),
            {"budgets": {"fraud": 0.004}, "floors": {"fraud": 0.85}},
            "with an accuracy of at least 0.85 there; what would work: a budget of 6.6 ms (large)"
            " or a floor of 0.8 (small)",
        ),
        (
            served(0.95),
            {"budgets": {"fraud": 0.004}},
            "no number of small pods gives fraud a served accuracy of 0.95: it is 0.8000 at the"
            " most, because small is the best within 4 ms; what would work: a goal of 0.8000",
        ),
        (
            served(0.85),
            {"budgets": {"fraud": 0.004}},
            "a goal of 0.8000 or a budget of 6.6 ms for fraud/default (large, 0.9)",
        ),
    ],
)
def test_what_no_number_of_pods_gives_and_what_would_work(goal, options, told):
    traffic = make_traffic({"fraud": 20}, seconds=5, **options)
    unmet = really(make_pod(make_kind(), {"fraud": MODELS["fraud"]}), traffic, [goal])
    assert isinstance(unmet, Unmet)
    assert told in unmet.reasons[0].sentence


def test_goals_within_the_noise_of_an_idle_pod_are_found_out():
    # 2.2 ms are the p99 of a small one; with so much noise more of them take longer.
    traffic = make_traffic({"fraud": 60}, seconds=10, budgets={"fraud": 0.0023})
    conditions = Conditions(seeds=1, requests=2_000, noise=0.3)
    found = simulate_idle(
        make_pod(make_kind(), {"fraud": MODELS["fraud"]}),
        traffic,
        [attainment(0.99)],
        conditions,
        lambda *_: None,
    )
    assert found.verdicts[0].high < 0.95
    assert found.busy["cpu"] < 0.2
