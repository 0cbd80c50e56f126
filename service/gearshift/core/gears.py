"""What a strand can shift into at the present prices, worked out once per change of prices.

Two things are read on the hot path. `options` are the gears by device, with worth and
worker time by batch size. `value_of_waiting` is what a ticket is still worth if it is not
served now: the best net worth of any column that its remaining slack leaves room for,
nothing when the slack is gone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, zip_longest
from typing import NamedTuple

from gearshift.core.cascade import gain, price_of_going_on
from gearshift.core.columns import Column, sizes, worth
from gearshift.core.guard import Guard, Length, Limit
from gearshift.core.prices import Prices, net_worth, price_of_time
from gearshift.core.profile import Profile
from gearshift.core.strand import Strand

STEP = 0.0005
"""Steps in the value of waiting below this share of the weight are left out."""


@dataclass(frozen=True, slots=True)
class Option:
    """One gear on one device. By number of tickets (index 0 unused): `needs`, the p99 of the
    answers in seconds, `blocks`, that of the run, which is less of a cascade's first one, and
    `nets`, the worth of the answers minus the price of the run. `sizes` are the numbers that are
    compared, rising."""

    profile: Profile
    sizes: Sequence[int]
    needs: Sequence[float]
    blocks: Sequence[float]
    nets: Sequence[float]


Standing = tuple[str, Limit, bool, int, int]
"""What a calm strand's best batch depends on: device, guard's limit, whether long runs may
start, tickets, and each idle worker's share of them; no more tickets than a batch can have."""


class Calm(NamedTuple):
    """The best batch from the first ticket on while no ticket is short of time: so many
    tickets in this gear (None: no batch may run). It took batches of up to `longest` seconds
    into account."""

    longest: float
    score: float
    profile: Profile | None
    size: int


class Flat(NamedTuple):
    """Scores by number of tickets if each of them is worth the same in waiting: of just so many
    in every gear, of so many or fewer, and that of the best gear on every device."""

    scores: Mapping[Profile, Sequence[float]]
    peaks: Mapping[Profile, Sequence[float]]
    crests: Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Gears:
    """`needs` (seconds of slack, rising) and `values` (worth, rising) are the steps of the
    value of waiting; `full` is its last value, with slack of at least `enough`; `crowd` the
    tickets that the best column serves at once, `most` those that fit into a batch.

    `options` by device and by the number of steps that the first ticket's slack has reached:
    each option behind the highest score that it could still have then, highest first. `flat`
    are the scores of tickets that can all well wait; `calm` keeps what was found for those.
    """

    options: dict[str, Sequence[Sequence[tuple[float, Option]]]]
    needs: Sequence[float]
    values: Sequence[float]
    full: float
    enough: float
    crowd: int
    most: int
    flat: Flat
    calm: dict[Standing, Calm] = field(default_factory=dict)

    def crest(self, device: str, count: int) -> float:
        """The highest score of at most `count` tickets that can all well wait."""
        crests = self.flat.crests.get(device)
        if crests is None:
            return -math.inf
        return crests[min(count, len(crests) - 1)]


def gears(
    strand: Strand,
    columns: Sequence[Column],
    prices: Prices,
    guard: Guard,
    workers: dict[str, int],
    bonus: float,
) -> Gears:
    """The gears of `strand` at these prices; `workers` is their number by device."""
    options = {
        device: tuple(_option(strand, profile, device, prices, guard, bonus) for profile in found)
        for device, found in strand.gears.items()
    }
    steps = []
    crowd, best = 1, float("-inf")
    for column in columns:
        net = net_worth(column, prices) - _later(strand, column.profile, prices)
        # A worker becomes free about so long after it is wished for.
        wait = column.cost * column.count / workers[column.device]
        steps.append((column.need + wait, net))
        if net > best:
            best, crowd = net, column.count
    for device, found in options.items():
        for option in found:
            wait = option.profile.p50s[strand.rows] / workers[device]
            steps.append((option.needs[1] + wait, option.nets[1]))
    needs: list[float] = []
    values: list[float] = []
    reached = 0.0
    for need, net in sorted(steps):
        if net > reached + STEP * strand.weight or (reached == 0.0 and net > 0.0):
            reached = net
            needs.append(need)
            values.append(net)
    return Gears(
        options={
            device: [_ranked(found, value) for value in (0.0, *values)]
            for device, found in options.items()
        },
        needs=needs,
        values=values,
        full=reached,
        enough=needs[-1] if needs else 0.0,
        crowd=crowd,
        most=max(1, strand.model.max_batch_size // strand.rows),
        flat=flat_scores(options, reached),
    )


def flat_scores(options: Mapping[str, Sequence[Option]], full: float) -> Flat:
    """The scores, by device, if every ticket is worth `full` in waiting."""
    scores = {
        option.profile: [net - size * full for size, net in enumerate(option.nets)]
        for found in options.values()
        for option in found
    }
    peaks = {profile: [-math.inf, *accumulate(one[1:], max)] for profile, one in scores.items()}
    crests = {
        device: list(accumulate((max(each) for each in _by_count(peaks, found)), max))
        for device, found in options.items()
    }
    return Flat(scores, peaks, crests)


def _by_count(
    peaks: Mapping[Profile, Sequence[float]], options: Sequence[Option]
) -> Iterable[tuple[float, ...]]:
    """The options' peaks, one number of tickets after the other; not all take equally many."""
    return zip_longest(*[peaks[option.profile] for option in options], fillvalue=-math.inf)


def _ranked(options: Sequence[Option], value: float) -> Sequence[tuple[float, Option]]:
    """Nobody in a batch is worth less in waiting than its first ticket, so no batch of an
    option scores higher than if all were worth that: most options need no second look."""
    bounds = [
        (max(option.nets[size] - size * value for size in option.sizes), option)
        for option in options
    ]
    return sorted(bounds, key=lambda bound: -bound[0])


def _later(strand: Strand, profile: Profile, prices: Prices) -> float:
    """What a ticket served by a cascade will cost when some of its rows go on."""
    if profile.cascade is None:
        return 0.0
    gained = strand.weight * profile.cascade.escalated * gain(strand.model, profile.cascade)
    best = strand.model.best_accuracy
    return price_of_going_on(profile, prices, strand.rows, gained / best if best > 0 else gained)


def _option(
    strand: Strand, profile: Profile, device: str, prices: Prices, guard: Guard, bonus: float
) -> Option:
    limit = guard.on(device)
    value = worth(strand, profile, bonus) - _later(strand, profile, prices)
    needs, p50s = profile.p99s[:: strand.rows], profile.p50s[:: strand.rows]
    blocks = needs if profile.cascade is None else profile.runs.p99s[:: strand.rows]
    short = price_of_time(prices, device, Length.SHORT)
    # Where no run is too long, which is nearly always, the price is one for all of them.
    if blocks[-1] <= limit.reach:
        nets = [count * value - short * p50 for count, p50 in enumerate(p50s)]
    else:
        by_length = {length: price_of_time(prices, device, length) for length in Length}
        nets = [
            count * value
            - (short if block <= limit.reach else by_length[limit.length(p50, block)]) * p50
            for count, (p50, block) in enumerate(zip(p50s, blocks, strict=True))
        ]
    return Option(profile, sizes(len(needs) - 1), needs, blocks, nets)
