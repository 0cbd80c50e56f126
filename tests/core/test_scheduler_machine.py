"""The scheduler's invariants, under any order of events (Hypothesis state machine).

The machine keeps its own picture of what waits and what runs, and judges every decision
against the promises of the design: settled exactly once, never below the floor, never
hopeless, earliest deadline first, no neighbour harmed, no idling while something can run; and
whatever is exchanged, unloaded or replaced meanwhile, on no other generation than its own.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from builders import make_catalog, make_model, make_profiles, make_ticket
from gearshift.core.catalog import Late
from gearshift.core.decisions import Admitted, Dispatch, Drop, Refused
from gearshift.core.prices import Planner
from gearshift.core.profile import Profile, Profiles
from gearshift.core.revision import revised
from gearshift.core.scheduler import Scheduler
from gearshift.errors import BudgetInfeasible, DeadlineExpired, FloorUnreachable

SECONDS = {"large": (2.0, 6.0), "middle": (2.0, 2.0), "small": (1.0, 0.25)}
ACCURACIES = {"large": 0.95, "middle": 0.9, "small": 0.8}
MAX_BATCH = 4
WORKERS = {0: "cpu", 1: "cpu", 2: "near"}
NEAR_MOST = 2
"""Rows that fit on the second device at once: fewer than a request may have."""

CHANGES = ["stays", "stays", "another", "another", "gone"]


def make_generation(name, generation):
    """Every second generation is slower and more accurate than the others."""
    accuracies = {k: v + 0.01 * (generation % 2) for k, v in ACCURACIES.items()}
    model = make_model(name, accuracies, max_batch_size=MAX_BATCH)
    return replace(model, generation=generation)


def make_all_profiles(models):
    everywhere = []
    for model in models:
        seconds = {k: (f + 0.5 * (model.generation % 2), r) for k, (f, r) in SECONDS.items()}
        everywhere += make_profiles(make_catalog(model), seconds).everywhere(model.name)
    near = [
        Profile(profile.variant, "near", profile.points, NEAR_MOST)
        for profile in everywhere
        if profile.variant.name != "large"
    ]
    return Profiles({model.name: model for model in models}, [*everywhere, *near])


class SchedulerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.generation = 1
        self.served = {name: make_generation(name, 1) for name in ("a", "b")}
        profiles = make_all_profiles(self.served.values())
        self.profiles = {(name, 1): profiles.everywhere(name) for name in self.served}
        self.leaving = {}
        self.workers = dict(WORKERS)
        self.new_workers = count(100)
        self.lost = []
        self.scheduler = Scheduler(make_catalog(*self.served.values()), profiles, WORKERS)
        self.planner = Planner()
        self.now = 0.0
        self.ids = count(1)
        self.waiting = {}
        self.running = {}
        self.settled = set()
        self.wake_at = math.inf

    @precondition(lambda self: self.served)
    @rule(
        data=st.data(),
        budget=st.sampled_from([1.25, 4.0, 9.0, 30.0, math.inf]),
        floor=st.sampled_from([-math.inf, 0.85, 0.95]),
        rows=st.integers(1, MAX_BATCH),
        variant=st.sampled_from([None, None, None, "small", "large"]),
        late=st.sampled_from([Late.DROP, Late.DROP, Late.SERVE]),
    )
    def admit(self, data, budget, floor, rows, variant, late):
        model = self.served[data.draw(st.sampled_from(sorted(self.served)))]
        self.take(model, budget, floor, rows, variant, late)

    @precondition(lambda self: self.leaving)
    @rule(data=st.data(), budget=st.sampled_from([4.0, 30.0]), rows=st.integers(1, MAX_BATCH))
    def go_on(self, data, budget, rows):
        """The second ticket of a cascade, or of a run that broke."""
        model = self.leaving[data.draw(st.sampled_from(sorted(self.leaving)))]
        self.take(model, budget, -math.inf, rows, "large", Late.DROP)

    def take(self, model, budget, floor, rows, variant, late):
        ticket = make_ticket(
            next(self.ids),
            model=model.name,
            generation=model.generation,
            arrival=self.now,
            budget=budget,
            floor=floor,
            rows=rows,
            variant=variant,
            late=late,
        )
        verdict = self.scheduler.admit(ticket, self.now)
        if isinstance(verdict, Admitted):
            self.waiting[ticket.id] = ticket
        else:
            assert isinstance(verdict, Refused)
            assert str(verdict.error)

    @rule(data=st.data())
    @precondition(lambda self: self.waiting)
    def cancel_waiting(self, data):
        ticket_id = data.draw(st.sampled_from(sorted(self.waiting)))
        self.scheduler.cancel(ticket_id, self.now)
        del self.waiting[ticket_id]
        self.settled.add(ticket_id)

    @rule(data=st.data())
    @precondition(lambda self: self.running)
    def cancel_running(self, data):
        dispatch = data.draw(st.sampled_from([d for d, _ in self.running.values()]))
        self.scheduler.cancel(data.draw(st.sampled_from(dispatch.tickets)).id, self.now)

    @rule(a=st.sampled_from(CHANGES), b=st.sampled_from(CHANGES))
    def exchange(self, a, b):
        """Each model stays, is exchanged, or is gone; what is gone may come back."""
        self.generation += 1
        models = {}
        for name, change in (("a", a), ("b", b)):
            if change == "stays" and name in self.served:
                models[name] = self.served[name]
            elif change == "another":
                models[name] = make_generation(name, self.generation)
        profiles = make_all_profiles(models.values())
        assert self.scheduler.exchange(models, profiles, self.now) == []
        for name, model in models.items():
            # What stays keeps the profiles that it has.
            new = profiles.everywhere(name)
            self.profiles.setdefault((name, model.generation), new)
        for name, model in self.served.items():
            if models.get(name) is not model:
                self.leaving[name, model.generation] = model
        self.served = models

    @precondition(lambda self: self.leaving)
    @rule()
    def retire(self):
        for key in list(self.leaving):
            held = [
                *self.waiting.values(),
                *(t for d, _ in self.running.values() for t in d.tickets),
            ]
            if all((ticket.model, ticket.generation) != key for ticket in held):
                self.scheduler.retire(self.leaving.pop(key))
                with pytest.raises(KeyError):
                    self.scheduler._lanes.at(*key)

    @rule(data=st.data(), accuracy=st.sampled_from([0.84, 0.9, 0.96]))
    @precondition(lambda self: self.served or self.leaving)
    def revise(self, data, accuracy):
        """What is learned may be of any generation."""
        models = {(n, m.generation): m for n, m in self.served.items()} | self.leaving
        key = data.draw(st.sampled_from(sorted(models)))
        found = revised(models[key], {"large": accuracy}, {})
        (self.leaving if key in self.leaving else self.served).update(
            {key if key in self.leaving else key[0]: found}
        )
        for drop in self.scheduler.revise(found, self.now):
            self.settle(drop.ticket)
            assert isinstance(drop.error, FloorUnreachable | BudgetInfeasible)

    @rule(data=st.data())
    def replace_worker(self, data):
        """One of them hangs, or is broken."""
        lost = data.draw(st.sampled_from(sorted(self.workers)))
        new = next(self.new_workers)
        dispatch, _ = self.running.pop(lost, (None, None))
        number = self.scheduler.replace_worker(lost, new, self.now)
        assert number == (None if dispatch is None else dispatch.id)
        self.workers[new] = self.workers.pop(lost)
        self.lost.append(number)

    @precondition(lambda self: self.lost)
    @rule()
    def finish_after_all(self):
        number = self.lost.pop()
        if number is not None:
            self.scheduler.finished(number, self.now, 1.0)

    @rule(data=st.data(), factor=st.sampled_from([0.5, 1.0, 3.0]))
    @precondition(lambda self: self.running)
    def finish(self, data, factor):
        worker = data.draw(st.sampled_from(sorted(self.running)))
        dispatch, begun = self.running.pop(worker)
        took = factor * dispatch.profile.p99(dispatch.rows)
        self.now = max(self.now, begun + took)
        self.scheduler.finished(dispatch.id, self.now, took)
        self.decide()

    @rule(step=st.sampled_from([0.0, 0.25, 1.0, 5.0, 40.0]))
    def time_passes(self, step):
        self.now += step

    @rule()
    def wake(self):
        if self.wake_at < math.inf:
            self.now = max(self.now, self.wake_at)
        self.decide()

    @rule(price=st.sampled_from([0.0, 0.01, 100.0, -1.0, math.nan]))
    def price(self, price):
        self.scheduler.set_prices({"cpu": price})

    @rule()
    def plan(self):
        self.scheduler.set_prices(self.planner.prices(self.scheduler.outlook(self.now)))

    @rule()
    def decide(self):
        waiting_before = dict(self.waiting)
        decisions = self.scheduler.decide(self.now)
        self.wake_at = decisions.wake_at
        for action in decisions.actions:
            if isinstance(action, Drop):
                self.judge_drop(action)
            else:
                self.judge_dispatch(action, waiting_before)
        self.judge_idling()
        for ticket in self.waiting.values():
            if ticket.late is Late.DROP and ticket.deadline < math.inf:
                assert self.wake_at <= self.latest_start(ticket) + 1e-6

    def able(self, ticket):
        return [
            p
            for p in self.profiles[ticket.model, ticket.generation]
            if p.variant.accuracy >= ticket.floor and ticket.variant in (None, p.variant.name)
        ]

    def latest_start(self, ticket):
        return ticket.deadline - min(p.p99(ticket.rows) for p in self.able(ticket))

    def settle(self, ticket):
        assert ticket.id not in self.settled
        assert self.waiting.pop(ticket.id) is ticket
        self.settled.add(ticket.id)

    def judge_drop(self, drop):
        self.settle(drop.ticket)
        assert isinstance(drop.error, DeadlineExpired)
        assert drop.ticket.late is Late.DROP
        assert self.now > self.latest_start(drop.ticket)

    def judge_dispatch(self, dispatch: Dispatch, waiting_before):
        assert dispatch.worker not in self.running
        assert self.workers[dispatch.worker] == dispatch.profile.device
        most = NEAR_MOST if dispatch.profile.device == "near" else MAX_BATCH
        assert dispatch.rows == sum(t.rows for t in dispatch.tickets) <= most
        self.running[dispatch.worker] = (dispatch, self.now)
        for ticket in dispatch.tickets:
            self.settle(ticket)
            assert ticket.model == dispatch.model.name
            assert ticket.generation == dispatch.model.generation
            assert dispatch.profile in self.profiles[ticket.model, ticket.generation]
            assert dispatch.profile.variant.accuracy >= ticket.floor
            assert ticket.variant in (None, dispatch.profile.variant.name)
            if ticket.late is Late.DROP:
                assert self.now + dispatch.profile.p99(dispatch.rows) <= ticket.deadline
        self.judge_order(dispatch, waiting_before)

    def judge_order(self, dispatch, waiting_before):
        """Nobody who asks for the same and is due earlier is left behind, but those whom this
        batch could not have answered in time."""
        ends = self.now + dispatch.profile.p99(dispatch.rows)

        def alike(ticket):
            endless = ticket.deadline == math.inf  # such wait apart, as if due after PATIENCE
            model = (ticket.model, ticket.generation)
            return (model, ticket.floor, ticket.variant, ticket.rows, ticket.late, endless)

        for taken in dispatch.tickets:
            for other in self.waiting.values():
                in_time = other.deadline >= ends
                if taken.late is Late.DROP and alike(other) == alike(taken) and in_time:
                    assert (other.deadline, other.id) > (taken.deadline, taken.id)

    def judge_idling(self):
        """A worker may idle beside work only if the decision names when the waiting ends, and
        that is not too late for anybody."""
        idle = {device for worker, device in self.workers.items() if worker not in self.running}
        for ticket in self.waiting.values():
            if all(
                profile.device not in idle or profile.max_batch < ticket.rows
                for profile in self.able(ticket)
            ):
                continue
            assert self.wake_at < math.inf, "a worker idles beside work, and nothing ends that"
            if self.now <= self.latest_start(ticket):
                assert self.wake_at <= self.latest_start(ticket) + 1e-6, "woken too late"

    @invariant()
    def counts_agree(self):
        assert self.scheduler.waiting == len(self.waiting)

    def teardown(self):
        """Whatever happened, everything admitted ends."""
        for _ in range(6 * len(self.waiting) + 6):
            self.decide()
            if not self.running and self.waiting:
                self.now = max(self.now, self.wake_at)
                continue
            for worker in list(self.running):
                dispatch, begun = self.running.pop(worker)
                took = dispatch.profile.p99(dispatch.rows)
                self.now = max(self.now, begun + took)
                self.scheduler.finished(dispatch.id, self.now, took)
        assert self.waiting == {}
        self.retire() if self.leaving else None
        served = {(name, model.generation) for name, model in self.served.items()}
        lanes = self.scheduler._lanes
        assert {(lane.model.name, lane.model.generation) for lane in lanes.every} == served
        assert not lanes.leaving


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(max_examples=150, stateful_step_count=50)
