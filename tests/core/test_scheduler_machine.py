"""The scheduler's invariants, under any order of events (Hypothesis state machine).

The machine keeps its own picture of what waits and what runs, and judges every decision
against the promises of the design: settled exactly once, never below the floor, never
hopeless, earliest deadline first, no neighbour harmed, no idling while something can run.
"""

from __future__ import annotations

import math
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from builders import make_catalog, make_model, make_profiles, make_ticket
from gearshift.core.catalog import Late
from gearshift.core.decisions import Admitted, Dispatch, Drop, Refused
from gearshift.core.prices import Planner
from gearshift.core.profile import Profile, Profiles
from gearshift.core.scheduler import Scheduler
from gearshift.errors import DeadlineExpired

SECONDS = {"large": (2.0, 6.0), "middle": (2.0, 2.0), "small": (1.0, 0.25)}
ACCURACIES = {"large": 0.95, "middle": 0.9, "small": 0.8}
MAX_BATCH = 4
WORKERS = {0: "cpu", 1: "cpu", 2: "near"}
NEAR_MOST = 2
"""Rows that fit on the second device at once: fewer than a request may have."""


class SchedulerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        catalog = make_catalog(
            *(make_model(name, ACCURACIES, max_batch_size=MAX_BATCH) for name in ("a", "b"))
        )
        everywhere = [p for n in "ab" for p in make_profiles(catalog, SECONDS).everywhere(n)]
        near = [
            Profile(profile.variant, "near", profile.points, NEAR_MOST)
            for profile in everywhere
            if profile.variant.name != "large"
        ]
        self.profiles = Profiles(catalog.models, [*everywhere, *near])
        self.scheduler = Scheduler(catalog, self.profiles, WORKERS)
        self.planner = Planner()
        self.now = 0.0
        self.ids = count(1)
        self.waiting = {}
        self.running = {}
        self.settled = set()
        self.wake_at = math.inf

    @rule(
        model=st.sampled_from(["a", "b"]),
        budget=st.sampled_from([1.25, 4.0, 9.0, 30.0, math.inf]),
        floor=st.sampled_from([-math.inf, 0.85, 0.95]),
        rows=st.integers(1, MAX_BATCH),
        variant=st.sampled_from([None, None, None, "small", "large"]),
        late=st.sampled_from([Late.DROP, Late.DROP, Late.SERVE]),
    )
    def admit(self, model, budget, floor, rows, variant, late):
        ticket = make_ticket(
            next(self.ids),
            model=model,
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
            for p in self.profiles.everywhere(ticket.model)
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
        assert WORKERS[dispatch.worker] == dispatch.profile.device
        most = NEAR_MOST if dispatch.profile.device == "near" else MAX_BATCH
        assert dispatch.rows == sum(t.rows for t in dispatch.tickets) <= most
        self.running[dispatch.worker] = (dispatch, self.now)
        for ticket in dispatch.tickets:
            self.settle(ticket)
            assert ticket.model == dispatch.model.name
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
            return (ticket.model, ticket.floor, ticket.variant, ticket.rows, ticket.late, endless)

        for taken in dispatch.tickets:
            for other in self.waiting.values():
                in_time = other.deadline >= ends
                if taken.late is Late.DROP and alike(other) == alike(taken) and in_time:
                    assert (other.deadline, other.id) > (taken.deadline, taken.id)

    def judge_idling(self):
        """A worker may idle beside work only if the decision names when the waiting ends, and
        that is not too late for anybody."""
        idle = {device for worker, device in WORKERS.items() if worker not in self.running}
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


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(max_examples=150, stateful_step_count=50)
