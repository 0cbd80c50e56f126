"""Baseline: only the most accurate variant that a request may use, however long it takes."""

from __future__ import annotations

from collections.abc import Sequence

from gearshift.core.profile import Profile
from gearshift.core.request import Ticket
from gearshift.simulate.policies.any_worker import AnyWorker
from gearshift.simulate.policies.deadline_order import Choice, Queue, accepts


class MostAccurate(AnyWorker):
    """What a server without gears does: one variant a request, chosen before the queue.

    On each device a request may use the most accurate variant that meets its floor and, on
    an idle worker, its budget. Earliest deadline first with adaptive batching, as Clockwork
    (Gujarati et al., OSDI '20) does for models with one variant: the batch is as large as
    its first member's deadline allows.
    """

    def _permitted(self, ticket: Ticket) -> Sequence[Profile]:
        found = (self._best(ticket, device) for device in self._devices)
        # Without one that fits, everything is told: the refusal then names what would do.
        return [best for best in found if best is not None] or super()._permitted(ticket)

    def _best(self, ticket: Ticket, device: str) -> Profile | None:
        for profile in self._profiles.on(ticket.model, device):
            if accepts(ticket, profile) and profile.p99(ticket.rows) <= ticket.budget:
                return profile
        return None

    def _choose(self, queue: Queue, device: str, now: float) -> Choice | None:
        gears = self._profiles.on(queue.model, device)
        if not gears:
            return None
        members: list[Ticket] = []
        rows = most = 0
        chosen = None
        for ticket in queue.due_from(now):
            best = self._best(ticket, device)
            if best is None or (chosen is not None and best is not chosen):
                continue
            within = best.rows_within(ticket.deadline - now)
            if chosen is None:
                if within < ticket.rows:
                    continue
                chosen, most = best, within
            if rows + ticket.rows > most:
                break
            members.append(ticket)
            rows += ticket.rows
        return None if chosen is None else (chosen, members)

    def _rank(self, choice: Choice) -> tuple[float, ...]:
        profile, _ = choice
        return (-profile.variant.accuracy, *super()._rank(choice))
