"""Who runs on the last idle worker: whoever costs all the others least.

Whoever runs first makes the others wait. What scores above zero loses nothing by coming
second, unless it is counted as harmed itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import itemgetter

from gearshift.core.gears import Gears
from gearshift.core.scoring import TIE, Candidate, loss, shorter_batches
from gearshift.core.strand import Strand

DIGITS, ALIKE = 9, 1e-8
"""Scores are compared to so many digits; those that are the same differ by less than ALIKE."""

MOST_CANDIDATES = 8
"""So many of the best are weighed against the harm that they do to all others."""

Chosen = tuple[Strand, Candidate]

Scored = tuple[float, int, Strand, Candidate]
"""A candidate and its strand, behind its score and the strand's place among those that wait."""


by_score = itemgetter(0)


def bar(scored: Sequence[Scored]) -> float:
    """What nobody who is among the best scores less than; there are enough of them."""
    return sorted([each[0] for each in scored])[-MOST_CANDIDATES] - ALIKE


def in_order(scored: list[Scored]) -> list[Scored]:
    """The best, highest score first; of equals the one that is due first."""
    if len(scored) > MOST_CANDIDATES:
        least = bar(scored)
        scored = [each for each in scored if each[0] >= least]
    if len(scored) > 1:
        scored.sort(key=_rank)
    return scored[:MOST_CANDIDATES]


def _rank(scored: Scored) -> tuple[float, float, int]:
    score, place, strand, candidate = scored
    return -round(score, DIGITS), strand.keys[candidate[2]][0], place


def longest(scored: Sequence[Scored]) -> float:
    """Seconds: the longest p99 of these candidates."""
    return max(
        [gear.runs.p99s[count * strand.rows] for _, _, strand, (_, gear, _, count) in scored]
    )


def least_harm(
    candidates: Sequence[Scored],
    in_haste: Sequence[tuple[Strand, Gears]],
    gears_of: Callable[[Strand], Gears],
    device: str,
    now: float,
    next_free: float,
    allowed: float,
    *,
    lesser: bool,
) -> Chosen:
    """The candidate, best scores first, whose run costs all strands least.

    `in_haste` are those that may lose something before another worker is free, which is in
    `next_free` seconds. `lesser`: also consider what uses less of the worker's time, and those
    in haste themselves though waiting seems right to them; `allowed` is the p99 that their runs
    must stay below.
    """
    # What they lose by so long a delay, and each strand's part of it.
    losses: dict[float, tuple[float, dict[Strand, float]]] = {}
    best: Chosen = candidates[0][2:]
    least = (math.inf, 0.0)

    def consider(strand: Strand, candidate: Candidate) -> None:
        nonlocal best, least
        score, profile, first, count = candidate
        harm = max(0.0, -score)
        delay = min(profile.runs.p99s[count * strand.rows], next_free)
        if in_haste and delay > 0.0:
            known = losses.get(delay)
            if known is None:
                parts = {s: loss(s, found, now, delay) for s, found in in_haste}
                known = losses[delay] = (sum(parts.values()), parts)
            total, parts = known
            harm += total
            part = parts.get(strand)
            if part:
                members = (first, first + count)
                harm += loss(strand, gears_of(strand), now, delay, members) - part
        if (harm, -score) < least:
            least, best = (harm, -score), (strand, candidate)

    for score, _, strand, candidate in candidates:
        if -score > least[0]:
            break
        consider(strand, candidate)
    if lesser and least[0] > 0.0:
        # Would a lesser gear of somebody, and less of the worker's time, cost less?
        others = [
            (strand, profile.runs.p99s[count * strand.rows])
            for _, _, strand, (_, profile, _, count) in candidates
        ]
        named = {strand for strand, _ in others}
        others += [
            (strand, allowed)
            for strand, _ in in_haste
            if strand not in named
            and strand.keys[strand.start][0] - strand.quickest < now + next_free
        ]
        for strand, than in others:
            gears = gears_of(strand)
            for shorter in shorter_batches(strand, gears, device, now, than, -least[0] - TIE):
                consider(strand, shorter)
    return best
