"""What a batch is worth now: the answers, minus what waiting would be worth, minus the time.

    score = sum over members of (worth - value of waiting) - price x run time

At the right prices a full batch of the right variant scores about zero, a batch that is too
small or too dear scores less, and one whose members are running out of slack scores more.
So the best score runs first; below zero, waiting is right, and it ends when the members'
slack does.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

from gearshift.core.gears import Calm, Gears, Standing
from gearshift.core.guard import Limit
from gearshift.core.profile import Profile
from gearshift.core.strand import Strand

SAFETY = 0.3
"""The share of its budget that the last in line should have left when its turn comes."""

FEW = 4
"""Tickets below which nobody stands in line."""

SAVED, SAVED_MUCH = 0.9, 0.7
"""A batch's time per ticket as a share of a smaller one's, from which on it saves something."""

TIE = 1e-9
"""Scores that differ by less are equal: what is left of sums of floats."""

CLOSE = 1e-6
"""Scores that differ by more are no ties, nor ties of ties."""

EARLY = 1e-6
"""Seconds. What is remembered for a time is forgotten so much sooner, for sums of floats."""

Candidate = tuple[float, Profile, int, int]
"""Score, gear, index of the first member in the strand's keys, and number of members."""


def lag(strand: Strand, gears: Gears, now: float) -> float:
    """Seconds by which the strand is behind: how much earlier it must be served so that the
    tickets at its end, which wait for those before them, keep some slack.

    Without it a strand of cheap, quick answers would be put off to the last moment of its
    first ticket, with a hundred others right behind.
    """
    keys, start = strand.keys, strand.start
    count = len(keys) - start
    if count < FEW:
        return 0.0
    drain = strand.drain
    spare = now + gears.enough + SAFETY * strand.budget
    crowd = gears.crowd
    most = 0.0
    for position in (count - 1, 3 * count // 4, count // 2, count // 4):
        # The first crowd is served at once, whoever is behind it waits for its turn.
        behind = (position - crowd) / drain if position > crowd else 0.0
        late = behind - (keys[start + position][0] - spare)
        if late > most:
            most = late
    return most


def calm(strand: Strand, gears: Gears, now: float) -> bool:
    """Is every ticket worth as much in waiting as one can be, lag and all? Then only numbers
    matter for the best batch, not who is due when."""
    if now < strand.calm_until:
        return True
    spare = strand.keys[strand.start][0] - now - gears.enough
    # No ticket is due before the first, and nobody waits for more than all the others.
    behind = (len(strand.keys) - strand.start - 1 - gears.crowd) / strand.drain
    shift = (behind if behind > 0.0 else 0.0) + SAFETY * strand.budget - spare
    if shift > spare - EARLY:
        shift = lag(strand, gears, now)
    if shift > 0.0:
        spare -= shift
    # Slack falls with time, and the lag rises no faster than that.
    strand.calm_until = now + spare / 2.0 - EARLY
    return spare >= 0.0


def best_batches(
    strand: Strand, gears: Gears, device: str, now: float, limit: Limit, free: bool, idle: int
) -> list[Candidate]:
    """The batches of this strand with the highest score on an idle worker of `device`: of all
    that begin with its first ticket, and where it is higher, of those that pass it over.

    A batch begins at the first ticket in due order that its gear can still answer in time:
    one hopeless head must not drag everybody to a bad variant. `free` says that enough other
    workers are within the guard's reach for a run of any length. Where time has no price, the
    `idle` workers share the tickets, unless a larger batch saves much.
    """
    ranked = gears.options.get(device)
    if ranked is None:
        return []
    keys, start = strand.keys, strand.start
    end = len(keys)
    waiting = end - start
    slack = keys[start][0] - now
    share = -(-waiting // idle)
    flat = calm(strand, gears, now)
    if flat:
        found = calm_batch(gears, device, limit, free, waiting, share)
        if strand.lenient or found.longest <= slack:
            if found.profile is None:
                return []
            return [(found.score, found.profile, start, found.size)]
    shift = 0.0 if flat else lag(strand, gears, now)
    full = gears.full
    ranks: list[int] = []
    sums: list[float] = []
    values = gears.values
    if not flat:
        # Value of waiting summed from the head to where each step begins.
        total, reached, value = 0.0, start, 0.0
        for need, next_value in zip(gears.needs, values, strict=True):
            rank = bisect_left(keys, (now + need + shift, -1), start)
            total += (rank - reached) * value
            ranks.append(rank)
            sums.append(total)
            reached, value = rank, next_value
    reach = limit.reach
    headed: Candidate | None = None
    passing: Candidate | None = None
    highest_headed = highest = -math.inf
    spent = math.inf
    reached = len(values) if flat else bisect_right(gears.needs, slack - shift)
    if strand.lenient:
        slack = math.inf
    for bound, option in ranked[reached]:
        if bound < highest_headed - TIE:
            break
        needs, nets = option.needs, option.nets
        for size in option.sizes:
            if size > waiting:
                size = waiting
            need = needs[size]
            first = start
            if need > slack:
                first = bisect_left(keys, (now + need, -1), start)
                if end - first < size:
                    size = end - first
                    if not size:
                        break
                    need = needs[size]
            score = nets[size]
            if not free and option.blocks[size] > reach:
                if limit.toll == math.inf:
                    break
                score -= limit.toll * (option.blocks[size] - reach)
            if flat:
                score -= size * full
            else:
                last = first + size
                step = bisect_right(ranks, last) - 1
                waits = sums[step] + (last - ranks[step]) * values[step] if step >= 0 else 0.0
                step = bisect_right(ranks, first) - 1
                if step >= 0:
                    waits -= sums[step] + (first - ranks[step]) * values[step]
                score -= waits
            if first == start:
                if score > highest_headed + TIE or (
                    # Where time has no price, worker time that costs nothing is still spent
                    # on as many as it can serve.
                    score > highest_headed - TIE
                    and need / size < (SAVED if size <= share else SAVED_MUCH) * spent
                ):
                    highest_headed, spent = score, need / size
                    headed = (score, option.profile, first, size)
            elif score > highest:
                highest = score
                passing = (score, option.profile, first, size)
            if size >= waiting:
                break
    if headed is None or highest > highest_headed:
        return [found for found in (passing, headed) if found is not None]
    return [headed]


def calm_batch(
    gears: Gears, device: str, limit: Limit, free: bool, waiting: int, share: int
) -> Calm:
    """What `best_batches` finds on a device that they run on for `waiting` tickets none of which
    is short of time: it holds for as long as the prices do."""
    most = gears.most
    size = waiting if waiting < most else most
    standing = (device, limit, free, size, share if share < size else size)
    found = gears.calm.get(standing)
    if found is None:
        found = gears.calm[standing] = _calm_batch(gears, standing)
    return found


def _calm_batch(gears: Gears, standing: Standing) -> Calm:
    device, limit, free, waiting, share = standing
    reach, toll = limit.reach, limit.toll
    # Where no run is limited the highest score is known, and only what is close to it matters.
    close = gears.crest(device, waiting) - CLOSE if free else -math.inf
    best: tuple[Profile | None, int] = (None, 0)
    longest, highest, spent = 0.0, -math.inf, math.inf
    for bound, option in gears.options[device][-1]:
        if bound < highest - TIE:
            break
        needs, flats = option.needs, gears.flat.scores[option.profile]
        most = min(waiting, len(needs) - 1)
        longest = max(longest, needs[most])
        sizes = [size for size in option.sizes if size < most and flats[size] >= close]
        for size in (*sizes, most):
            score = flats[size]
            if not free and option.blocks[size] > reach:
                if toll == math.inf:
                    break
                score = option.nets[size] - size * gears.full
                score -= toll * (option.blocks[size] - reach)
            if score > highest - TIE:
                use = needs[size] / size
                if score > highest + TIE or use < (SAVED if size <= share else SAVED_MUCH) * spent:
                    highest, spent, best = score, use, (option.profile, size)
    return Calm(longest, highest, *best)


def shorter_batches(
    strand: Strand, gears: Gears, device: str, now: float, than: float, least: float
) -> list[Candidate]:
    """By gear the best batch from the first ticket on whose run's p99 is below `than` seconds: what
    this strand could do with less of a worker's time when others cannot wait for it. Gears
    that cannot score `least` may be left out."""
    flat = calm(strand, gears, now)
    waiting = min(len(strand), gears.most)
    if flat and gears.crest(device, waiting) < least:
        return []
    keys, start = strand.keys, strand.start
    slack = math.inf if strand.lenient else keys[start][0] - now
    shift = 0.0 if flat else lag(strand, gears, now)
    # By number of tickets, what they are worth in waiting; as far as asked for.
    waits = [0.0]
    found = []
    for _, option in gears.options.get(device, ((),))[0]:
        needs, nets = option.needs, option.nets
        most = min(waiting, bisect_left(option.blocks, than, 1) - 1)
        if flat and gears.flat.peaks[option.profile][most] < least:
            continue
        best: Candidate | None = None
        for size in range(1, most + 1):
            if needs[size] > slack:
                break
            if size == len(waits):
                due = keys[start + size - 1][0]
                value = gears.full if flat else value_of_waiting(gears, due - now - shift)
                waits.append(waits[-1] + value)
            score = nets[size] - waits[size]
            if best is None or score > best[0]:
                best = (score, option.profile, start, size)
        if best is not None:
            found.append(best)
    return found


def loss(
    strand: Strand, gears: Gears, now: float, delay: float, members: tuple[int, int] = (0, 0)
) -> float:
    """The worth that the waiting tickets lose if nothing is done for them for `delay` seconds.

    `members`, a range of indices in the strand's keys, are served and lose nothing.
    """
    keys, start = strand.keys, strand.start
    needs = gears.needs
    if not needs or keys[start][0] - now - delay >= gears.enough:
        return 0.0
    first, end = members
    lost = value = 0.0
    for need, next_value in zip(needs, gears.values, strict=True):
        before = bisect_left(keys, (now + need, -1), start)
        after = bisect_left(keys, (now + need + delay, -1), start)
        served = min(after, end) - max(before, first)
        lost += (after - before - (served if served > 0 else 0)) * (next_value - value)
        value = next_value
    return lost


def value_of_waiting(gears: Gears, slack: float) -> float:
    """What a ticket with so many seconds left is worth if it is not served now."""
    reached = bisect_right(gears.needs, slack)
    return gears.values[reached - 1] if reached else 0.0
