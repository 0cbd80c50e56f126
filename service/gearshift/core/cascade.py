"""Cascades in the scheduler: a gear made of two, and the ticket of a request that goes on.

The first variant answers every row. Rows of which it is not sure go on to the second one if there
is time, as a ticket of their own: pinned to the second variant, due when the request is due, worth
what the second answer adds to the first. From there on it competes like any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from gearshift.core.catalog import Cascade, Late, Model, Variant
from gearshift.core.guard import Length
from gearshift.core.prices import Prices, price_of_time
from gearshift.core.profile import Profile
from gearshift.core.request import Ticket

SPREAD = 2.0
"""Standard deviations above the mean: so many of a batch's rows may go on at the same time."""


def as_variant(cascade: Cascade, artifact_sha256: str = "") -> Variant:
    """The cascade as if it were a variant, with the number 0 and no file of its own."""
    return Variant(
        name=cascade.name,
        version=0,
        executor="",
        accuracy=cascade.accuracy,
        source="measured",
        artifact="",
        artifact_sha256=artifact_sha256,
    )


class Together(Profile):
    """The profile of a cascade, where its first variant's profile says `first` and its second
    one's `then`.

    The median is that of the first run, after which the worker is free again; the p99 holds until
    the second answer, so that a ticket is given to a cascade only if it has time for both.
    """

    __slots__ = ("first", "then")

    cascade: Cascade

    def __init__(self, model: Model, cascade: Cascade, first: Profile, then: Profile) -> None:
        self.cascade = cascade
        self.first = self.runs = first
        self.then = then
        self.device = first.device
        self.points = first.points
        self.variant = as_variant(cascade)
        self.refresh()

    @property
    def least_accuracy(self) -> float:
        return min(self.first.variant.accuracy, self.then.variant.accuracy)

    @property
    def serving(self) -> bool:
        return self.first.serving and self.then.serving

    @property
    def later(self) -> float:
        """What the rows that go on take, spread over all."""
        return self.cascade.escalated * self.then.row_cost

    def refresh(self) -> None:
        """One of the two has learned."""
        share, then = self.cascade.escalated, self.then
        p99s = [0.0]
        for rows in range(1, self.first.max_batch + 1):
            most = share * rows + SPREAD * math.sqrt(share * (1.0 - share) * rows)
            going_on = min(rows, max(1, math.ceil(most)))
            # More than the second runs at once go one batch after the other.
            whole, rest = divmod(going_on, then.max_batch)
            p99s.append(self.first.p99s[rows] + whole * then.p99s[then.max_batch] + then.p99s[rest])
        self._show(list(self.first.p50s), p99s)

    def observe(self, rows: int, seconds: float, now: float) -> bool:
        """Nothing runs under this profile: the two learn for themselves."""
        return False

    def settle(self, now: float) -> bool:
        return False

    def fresh(self) -> Profile:
        raise TypeError("a cascade's profile is made from those of its variants")


def together(model: Model, profiles: Sequence[Profile]) -> list[Together]:
    """A gear for each cascade of the model on each device that its first variant runs on."""
    found = []
    for cascade in model.cascades:
        second = [p for p in profiles if p.variant.name == cascade.then]
        if not second:
            continue
        then = min(second, key=lambda profile: profile.row_cost)
        found += [
            Together(model, cascade, first, then)
            for first in profiles
            if first.variant.name == cascade.first
        ]
    return found


def with_cascades(model: Model, profiles: Iterable[Profile]) -> tuple[Profile, ...]:
    """The profiles and the cascades made of them, on each device the most accurate first."""
    alone = tuple(profiles)
    if not model.cascades:
        return alone
    devices = list(dict.fromkeys(profile.device for profile in alone))
    return tuple(
        sorted(
            (*alone, *together(model, alone)),
            key=lambda p: (devices.index(p.device), -p.variant.accuracy),
        )
    )


def gain(model: Model, cascade: Cascade) -> float:
    """By how much the accuracy of a row that goes on rises, on average; not below 0."""
    first = model.by_name(cascade.first).accuracy
    return max(0.0, cascade.accuracy - first) / max(cascade.escalated, 1e-9)


def second_ticket(
    ticket: Ticket, model: Model, cascade: Cascade, ticket_id: int, rows: int, now: float
) -> Ticket:
    """The ticket of those rows of a request that go on at `now`. Its weight makes the second
    answer worth what it adds: the first one stands if it is dropped."""
    then = model.by_name(cascade.then).accuracy
    share = gain(model, cascade) / then if then > 0.0 else 1.0
    return Ticket(
        id=ticket_id,
        model=ticket.model,
        service_class=ticket.service_class,
        arrival=now,
        deadline=ticket.deadline,
        floor=ticket.floor,
        rows=rows,
        variant=cascade.then,
        late=Late.DROP,
        weight=ticket.weight * min(1.0, share),
        fallback=True,
        generation=ticket.generation,
    )


def price_of_going_on(profile: Profile, prices: Prices, rows: int, gained: float) -> float:
    """What a ticket of `rows` rows will cost later on the second variant's device, at most the
    `gained` worth of it: what is not worth its price will not go on."""
    if not isinstance(profile, Together):
        return 0.0
    price = price_of_time(prices, profile.then.device, Length.SHORT)
    return min(price * rows * profile.later, gained)
