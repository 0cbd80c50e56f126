"""What a bound says; in a file of its own, so that nobody needs a solver to name it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bound:
    """No policy has a higher effective accuracy.

    `step` is the length of a step of the program that was used and `seconds` the time that
    solving it took, both in seconds; `groups` is the number of kinds of requests in it.
    """

    effective_accuracy: float
    step: float
    groups: int
    seconds: float
