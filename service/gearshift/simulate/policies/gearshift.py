"""The policy as served: the unchanged core, and the planner that sets its prices."""

from __future__ import annotations

from collections.abc import Mapping

from gearshift.core.catalog import Catalog
from gearshift.core.decisions import Admitted, Decisions, Refused
from gearshift.core.prices import PLAN_EVERY, Planner
from gearshift.core.profile import Profiles
from gearshift.core.request import Ticket
from gearshift.core.scheduler import Scheduler
from gearshift.simulate.policy import Policy


class Gearshift:
    """Scheduler and planner together, as the server runs them."""

    plan_every = PLAN_EVERY

    def __init__(
        self, catalog: Catalog, profiles: Profiles, workers: Mapping[int, str], bonus: float = 0.0
    ) -> None:
        # What this run learns is nobody else's business: scenarios are used again.
        self.profiles = profiles.fresh()
        self.scheduler = Scheduler(catalog, self.profiles, workers, on_time_bonus=bonus)
        self.planner = Planner()

    def admit(self, ticket: Ticket, now: float) -> Admitted | Refused:
        return self.scheduler.admit(ticket, now)

    def finished(self, dispatch_id: int, now: float, measured: float) -> None:
        self.scheduler.finished(dispatch_id, now, measured)

    def decide(self, now: float) -> Decisions:
        return self.scheduler.decide(now)

    def plan(self, now: float) -> None:
        self.scheduler.set_prices(self.planner.prices(self.scheduler.outlook(now)))


def gearshift_policy(
    catalog: Catalog, profiles: Profiles, workers: Mapping[int, str], bonus: float = 0.0
) -> Policy:
    """The core's scheduler over these models, profiles and workers (id to device)."""
    return Gearshift(catalog, profiles, workers, bonus)
