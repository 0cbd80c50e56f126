"""The runner: virtual time, the accounts, and what it does not let a policy get away with."""

import math
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.decisions import Admitted, Decisions, Dispatch, Drop, Refused
from gearshift.core.scheduler import Scheduler
from gearshift.errors import DeadlineExpired, InvalidInput, Overloaded
from gearshift.simulate.policies import POLICIES
from gearshift.simulate.policy import ContractBroken
from gearshift.simulate.runner import run
from simulating import MODELS, make_scenario, run_policy, scenarios

ONE = {"m": {"large": (0.9, 0.0, 4.0), "small": (0.5, 0.0, 1.0)}}


def counted(result):
    """Everything in a result that does not come from a real clock."""
    found = asdict(result)
    for name in ("decision_us", "admit_us", "plan_ms"):
        del found[name]
    return found


class Greedy:
    """Runs whatever waits at once with one variant, one by one; for breaking rules with."""

    def __init__(self, scenario, variant="large"):
        self.scenario = scenario
        self.variant = variant
        self.free = list(scenario.workers)
        self.waiting = []
        self.running = {}
        self.wake_at = math.inf

    def admit(self, ticket, now):
        self.waiting.append(ticket)
        return Admitted()

    def finished(self, dispatch_id, now, measured):
        self.free.append(self.running.pop(dispatch_id))

    def dispatch(self, worker, *tickets):
        model = self.scenario.catalog.models[tickets[0].model]
        profiles = self.scenario.profiles.on(model.name, self.scenario.workers[worker])
        number = 1 + max(self.running, default=0)
        self.running[number] = worker
        return Dispatch(
            id=number,
            worker=worker,
            model=model,
            profile=next(p for p in profiles if p.variant.name == self.variant),
            tickets=tickets,
            rows=len(tickets),
        )

    def decide(self, now):
        actions = []
        while self.free and self.waiting:
            actions.append(self.dispatch(self.free.pop(), self.waiting.pop(0)))
        return Decisions(tuple(actions), self.wake_at)


def test_times_and_figures_of_an_example_by_hand():
    requests = [(10.0, "m", 5.0, -math.inf), (11.0, "m", 6.0, -math.inf), (20, "m", 100.0, 0.9)]
    scenario = make_scenario(ONE, requests, classes=["x", "y", "y"])
    result = run(scenario, Greedy(scenario), "greedy")
    # The first runs from 10 to 14, the second from 14 to 18 (due at 17), the third to 24.
    assert (result.total.served, result.total.late) == (2, 1)
    assert result.total.attainment == pytest.approx(2 / 3)
    assert result.total.mean_served_accuracy == pytest.approx(0.9)
    assert result.total.effective_accuracy == pytest.approx(0.6)
    assert result.total.utilisation == pytest.approx(12 / 14)
    assert result.utilisation_per_device == {"cpu": pytest.approx(12 / 14)}
    assert result.per_class["x"].attainment == 1.0
    assert (result.per_class["y"].requests, result.per_class["y"].late) == (2, 1)
    assert result.per_class["y"].utilisation == pytest.approx(8 / 14)
    assert result.variants == {"m": {"large": 3}}


def test_speed_up_shortens_gaps_and_keeps_budgets():
    requests = [(0.0, "m", 5.0, -math.inf), (8.0, "m", 5.0, -math.inf)]
    scenario = make_scenario(ONE, requests)
    assert run(scenario, Greedy(scenario), "greedy").total.late == 0
    assert run(scenario, Greedy(scenario), "greedy", speed_up=4.0).total.late == 1


def test_what_comes_together_is_admitted_before_one_decision():
    class Watching(Greedy):
        seen = ()

        def decide(self, now):
            self.seen = (*self.seen, (now, len(self.waiting)))
            return super().decide(now)

    requests = [(0.0, "m", 50.0, -math.inf)] * 3 + [(4.0, "m", 50.0, -math.inf)]
    scenario = make_scenario(ONE, requests)
    policy = Watching(scenario)
    run(scenario, policy, "watching")
    assert policy.seen == ((0.0, 3), (4.0, 3), (8.0, 2), (12.0, 1), (16.0, 0))


def test_refusals_and_drops_are_counted_by_their_reason():
    class Refusing(Greedy):
        def admit(self, ticket, now):
            if ticket.id == 0:
                return Refused(Overloaded("full", 1.0))
            return super().admit(ticket, now)

        def decide(self, now):
            drops = [Drop(ticket, DeadlineExpired("gone")) for ticket in self.waiting]
            self.waiting = []
            return Decisions(tuple(drops), math.inf)

    scenario = make_scenario(ONE, [(0.0, "m", 9.0, -math.inf)] * 3)
    total = run(scenario, Refusing(scenario), "refusing").total
    assert (total.shed, total.expired, total.served) == (1, 2, 0)
    assert total.mean_served_accuracy is None
    assert total.effective_accuracy == 0.0


def test_a_plan_is_made_at_the_first_arrival_and_then_in_step():
    class Planning(Greedy):
        plan_every = 2.5
        planned = ()

        def plan(self, now):
            self.planned = (*self.planned, now)

    requests = [(10.0, "m", 50.0, -math.inf), (13.0, "m", 50.0, -math.inf)]
    scenario = make_scenario(ONE, requests)
    policy = Planning(scenario)
    result = run(scenario, policy, "planning")
    assert policy.planned == (10.0, 12.5, 15.0, 17.5)
    assert result.plan_ms.calls == 4


def test_drift_makes_runs_longer():
    scenario = make_scenario(ONE, [(float(10 * i), "m", 7.0, -math.inf) for i in range(6)])
    result = run(
        scenario, Greedy(scenario), "greedy", drift=lambda dispatch, now: 3.0 if now >= 30 else 1.0
    )
    assert (result.total.served, result.total.late) == (3, 3)


def test_progress_ends_at_the_last_request():
    told = []
    scenario = make_scenario(ONE, [(float(i), "m", 100.0, -math.inf) for i in range(5000)])
    run(scenario, Greedy(scenario, "small"), "greedy", on_progress=lambda *at: told.append(at))
    assert told == [(2048, 5000), (4096, 5000), (5000, 5000)]


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.5])
def test_noise_has_mean_one_and_the_given_spread(noise):
    times = []

    class Measuring(Greedy):
        def finished(self, dispatch_id, now, measured):
            times.append(measured)
            super().finished(dispatch_id, now, measured)

    requests = [(float(10 * i), "m", 9.0, -math.inf) for i in range(4000)]
    scenario = make_scenario(ONE, requests)
    run(scenario, Measuring(scenario, "small"), "measuring", noise=noise, seed=3)
    mean = sum(times) / len(times)
    spread = math.sqrt(sum((t - mean) ** 2 for t in times) / len(times))
    assert mean == pytest.approx(1.0, abs=0.03)
    assert spread == pytest.approx(noise, rel=0.1, abs=1e-9)


@settings(max_examples=30)
@given(scenarios(), st.sampled_from(sorted(POLICIES)), st.integers(0, 5))
def test_the_same_seed_gives_the_same_result(scenario, name, seed):
    first = run_policy(scenario, name, noise=0.3, seed=seed)
    assert counted(run_policy(scenario, name, noise=0.3, seed=seed)) == counted(first)


def test_another_seed_gives_another_result():
    requests = [(float(i), "a", 8.5, -math.inf) for i in range(40)]
    scenario = make_scenario(MODELS, requests)
    results = {
        str(counted(run_policy(scenario, "gearshift", noise=0.3, seed=seed))["total"])
        for seed in range(4)
    }
    assert len(results) > 1


def test_the_core_is_driven_as_it_is():
    scenario = make_scenario(ONE, [(0.0, "m", 5.0, -math.inf)])
    core = Scheduler(scenario.catalog, scenario.profiles, scenario.workers)
    assert run(scenario, core, "core").total.served == 1


def test_a_workload_without_requests():
    total = run_policy(make_scenario(ONE, []), "gearshift").total
    assert (total.requests, total.attainment, total.mean_served_accuracy) == (0, 0.0, None)


# --- what no policy may do ------------------------------------------------------------------


def broken(match, policy_class, requests=((0.0, "m", 50.0, -math.inf),) * 2):
    scenario = make_scenario(ONE, requests)
    with pytest.raises(ContractBroken, match=match):
        run(scenario, policy_class(scenario), "broken")


def test_a_request_below_its_floor():
    class Below(Greedy):
        def __init__(self, scenario):
            super().__init__(scenario, "small")

    broken("at least 0.8", Below, [(0.0, "m", 50.0, 0.8)])


def test_a_request_answered_twice():
    class Twice(Greedy):
        def decide(self, now):
            tickets = self.waiting * 2
            self.waiting = []
            if not tickets:
                return Decisions((), math.inf)
            return Decisions((self.dispatch(0, *tickets),), math.inf)

    broken("does not wait", Twice)


def test_a_busy_worker():
    class Pushing(Greedy):
        def decide(self, now):
            actions = [self.dispatch(0, ticket) for ticket in self.waiting]
            self.waiting = []
            return Decisions(tuple(actions), math.inf)

    broken("worker 0 is busy", Pushing)


def test_a_batch_that_is_too_large():
    class Large(Greedy):
        def decide(self, now):
            action = self.dispatch(0, *self.waiting)
            self.waiting = []
            return Decisions((action,), math.inf)

    broken("a batch of 5 rows", Large, [(0.0, "m", 50.0, -math.inf)] * 5)


def test_somebody_left_waiting_for_ever():
    class Idle(Greedy):
        def decide(self, now):
            return Decisions((), math.inf)

    broken("2 request", Idle)


def test_a_policy_that_wakes_itself_for_ever():
    class Restless(Greedy):
        def decide(self, now):
            return Decisions((), now)

    broken("again and again", Restless)


def test_a_refusal_that_blames_the_caller():
    class Blaming(Greedy):
        def admit(self, ticket, now):
            return Refused(InvalidInput("no"))

    broken("cannot end with", Blaming)
