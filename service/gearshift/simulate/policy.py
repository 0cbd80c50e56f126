"""What the runner drives: an object with the core's contract, and optionally a planner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from gearshift.core.catalog import Catalog
from gearshift.core.decisions import Admitted, Decisions, Refused
from gearshift.core.profile import Profiles
from gearshift.core.request import Ticket


class Policy(Protocol):
    """The core's contract, as far as a simulation needs it. Times in seconds."""

    def admit(self, ticket: Ticket, now: float) -> Admitted | Refused:
        """Take the ticket in, or say why not."""

    def finished(self, dispatch_id: int, now: float, measured: float) -> None:
        """A worker is free again; `measured` is the true duration of its run."""

    def decide(self, now: float) -> Decisions:
        """Everything that should happen at `now`, and when to ask again."""


@runtime_checkable
class Planned(Protocol):
    """A policy with something to work out every now and then, off the hot path.

    `plan` is called at the first arrival and then every `plan_every` seconds of virtual
    time, after the events and before the decision of the same moment.
    """

    plan_every: float

    def plan(self, now: float) -> None: ...


PolicyFactory = Callable[[Catalog, Profiles, Mapping[int, str]], Policy]
"""Makes a fresh policy for models, their profiles, and each worker's device."""


class ContractBroken(RuntimeError):
    """A policy did what no policy may do: a mistake in its code, not in the input."""
