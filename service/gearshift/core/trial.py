"""A trial: what the scheduler would do, found out on a copy that shares nothing that changes."""

from __future__ import annotations

import math
from typing import NamedTuple

from gearshift.core.breaker import Breaker
from gearshift.core.cascade import Together
from gearshift.core.decisions import Drop, Refused
from gearshift.core.profile import Profile
from gearshift.core.request import Ticket
from gearshift.core.router import Reason, fastest, reason
from gearshift.core.scheduler import Scheduler
from gearshift.core.spare import Spare
from gearshift.errors import RequestError

MOST_STEPS = 64
"""Events that a trial looks ahead: behind that many, nothing is certain anyway."""


class Found(NamedTuple):
    """What becomes of a ticket, `after` so many seconds: it runs in the gear `profile` because
    of `reason`, or it ends with `error`. `certain` if the queue ahead could be followed."""

    profile: Profile | None = None
    reason: Reason | None = None
    error: RequestError | None = None
    after: float = 0.0
    certain: bool = True


class Trial(Scheduler):
    """A copy of a scheduler. Profiles are shared: it never tells them what a run took."""

    def __init__(self, original: Scheduler) -> None:
        self.__dict__.update(original.__dict__)
        self._workers = original._workers.copy()
        self._lanes = original._lanes.copy()
        self._selector = original._selector.copy(self._lanes, self._workers)
        self._places, self._left = dict(original._places), list(original._left)
        self._running = {}
        # What is given to a few by turns, or runs when nobody waits, is no answer to the question.
        self._spare = Spare()
        for lane in self._lanes.every:
            lane.draws = False

    def options(self, ticket: Ticket, now: float) -> list[tuple[Profile, float]]:
        """Every profile of the ticket's model that some worker can run, and the seconds until one
        is free for it: behind what runs, and what is due before it and accepts the same."""
        lane = self._lanes.at(ticket.model, ticket.generation)
        strand = lane.find(lane.key(ticket, lenient=ticket.budget == math.inf))
        found = []
        for profile in lane.runnable:
            device, ahead = profile.device, 0.0
            wait = 0.0
            if not self._workers.idle[device]:
                wait = max(0.0, self._workers.next_free(device) - now)
            if strand is not None and device in strand.gears:
                before = strand.count_until(ticket.deadline)
                ahead = before * strand.least_cost / self._workers.counts[device]
            found.append((profile, wait + ahead))
        return found

    def resident(self, ticket: Ticket, profile: Profile) -> bool:
        """Whether a profile of the ticket's model is loaded."""
        return self._lanes.at(ticket.model, ticket.generation).resident(profile)

    def breaker(self, ticket: Ticket, profile: Profile) -> Breaker | None:
        """That of a profile of the ticket's model, if nothing may run on it."""
        out = self._lanes.at(ticket.model, ticket.generation).out
        return out.get(profile.runs) or (
            out.get(profile.then) if isinstance(profile, Together) else None
        )

    def outcome(self, ticket: Ticket, now: float) -> Found:
        """What becomes of the ticket if it comes at `now` and nothing comes after it: every run
        ends when its p99 is over, and prices stay."""
        began = now
        verdict = self.admit(ticket, now)
        if isinstance(verdict, Refused):
            return Found(error=verdict.error)
        for _ in range(MOST_STEPS):
            decisions = self.decide(now)
            for action in decisions.actions:
                if isinstance(action, Drop):
                    if action.ticket.id == ticket.id:
                        return Found(error=action.error, after=now - began)
                elif any(member.id == ticket.id for member in action.tickets):
                    return Found(action.profile, action.reason(ticket), after=now - began)
            ends = self._workers.ends()
            following = min([decisions.wake_at, *ends.values()])
            if following == math.inf:
                break
            # A run that should be over may end at any moment.
            now = max(now, following)
            for worker, end in ends.items():
                if end <= now:
                    self._workers.end(worker, now)
        return self._guess(ticket, now - began)

    def _guess(self, ticket: Ticket, after: float) -> Found:
        """So much waits that the quickest gear which the ticket accepts is most probable."""
        lane = self._lanes.at(ticket.model, ticket.generation)
        here = [profile for profile in lane.runnable if lane.resident(profile)]
        profile = fastest(ticket, lane.model, here)
        why = reason(ticket, lane.model, profile, lane.better(profile, ticket.rows))
        return Found(profile, why, after=after, certain=False)
