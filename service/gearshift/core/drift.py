"""Do inputs look as they did? The population stability index of one feature, and when to say so.

The index of shares p (now) and q (then) over cells is the sum of (p - q) ln(p / q). Conventional
levels: below 0.1 nothing to speak of, above 0.25 another population. Two samples of n and m rows
from one population do not have 0, though: their index is about (1/n + 1/m) times a chi-square
variable with one degree of freedom less than there are cells (B. Yurdakul, Statistical Properties
of Population Stability Index, dissertation, Western Michigan University, 2018; B. Yurdakul and
J. Naranjo, Journal of Risk Model Validation 14(4), 2020). So its mean is taken off, and the tail of
that law says how likely as much is by chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

BEGINS, ENDS = 0.25, 0.1
"""The index from which on inputs have drifted, and below which they no longer have."""

CHANCE = 1e-4
"""How likely as much may be without drift, over all features of a model together."""

LEAST_ROWS = 200
"""Fewer rows say nothing."""


class Shift(NamedTuple):
    """How far one feature has moved: its index beyond what chance alone gives on average, not
    below 0, and the probability of as much or more by chance."""

    psi: float
    chance: float


def shift(reference: Sequence[float], size: float, counts: Sequence[int]) -> Shift:
    """Compare the rows of now with the reference, cell by cell.

    `reference` are shares, `size` how many rows they are worth (with weights: Kish's effective
    size), `counts` the rows of now. Half a row is added to every cell, so that an empty one has a
    logarithm (Jeffreys); cells that are empty on both sides say nothing and are left out.
    """
    cells = [each for each in zip(reference, counts, strict=True) if each[0] > 0 or each[1] > 0]
    rows = sum(counts)
    if len(cells) < 2 or not rows:
        return Shift(0.0, 1.0)
    now = [(count + 0.5) / (rows + 0.5 * len(cells)) for _, count in cells]
    then = [(share * size + 0.5) / (size + 0.5 * len(cells)) for share, _ in cells]
    psi = sum((p - q) * math.log(p / q) for p, q in zip(now, then, strict=True))
    noise = 1.0 / rows + 1.0 / size
    freedom = len(cells) - 1
    return Shift(max(0.0, psi - freedom * noise), chi_square_tail(psi / noise, freedom))


def chi_square_tail(x: float, freedom: int) -> float:
    """The probability that a chi-square variable with `freedom` degrees of freedom is above `x`.

    Finite sums for whole degrees (Abramowitz and Stegun, 26.4.4 and 26.4.5).
    """
    if x <= 0.0:
        return 1.0
    half = 0.5 * x
    if freedom % 2:
        tail = math.erfc(math.sqrt(half))
        term = math.exp(-half) * math.sqrt(half / math.pi) * 2.0
        steps = range(3, freedom + 1, 2)
    else:
        tail = term = math.exp(-half)
        term *= half
        steps = range(4, freedom + 1, 2)
    for degrees in steps:
        tail += term
        term *= x / degrees
    return min(1.0, tail)


class Alarm:
    """Says whether a model's inputs have drifted, and does not waver in between."""

    def __init__(self) -> None:
        self.drifted = False

    def judge(self, shifts: Sequence[Shift]) -> bool:
        """Take in how far each feature has moved; True if drift begins or ends with it."""
        before = self.drifted
        if before:
            self.drifted = any(each.psi >= ENDS for each in shifts)
        else:
            likely = CHANCE / max(1, len(shifts))
            self.drifted = any(each.psi >= BEGINS and each.chance < likely for each in shifts)
        return self.drifted != before
