"""Retries under overload: who was refused comes back, and a server that is short of workers must
not spend them on asking anew. Pure; time comes in.

What keeps a storm down: nobody is told to come back at the same moment as the others, who has come
back before is told to wait longer, and while much is shed only a small share of what is looked at
may be retries; the others are refused before anything is read (after the retry budgets of B. Beyer
et al., Site Reliability Engineering, 2016, chapter 21).
"""

from __future__ import annotations

import math

MEMORY = 1.0
"""Seconds after which what was counted is worth 1/e of it."""

SHEDDING = 0.05
"""Share of the latest requests that are shed from which on retries are damped."""

RETRIES = 0.1
"""Share of retries in what is looked at while much is shed."""

FEWEST = 20.0
"""Requests in memory below which nothing is concluded."""

LONGEST = 30.0
"""Seconds that anybody is told to wait for more than there is to wait."""

GRAIN = 0.005
"""Seconds between two decays."""

STEPS = 10
"""Attempts after which the wait grows no more."""


class Damper:
    """Counts what came and what was shed, each decaying, and rules on retries."""

    __slots__ = ("_came", "_retries", "_shed", "_until")

    def __init__(self) -> None:
        self._came = self._shed = self._retries = 0.0
        self._until = -math.inf

    def came(self, attempts: int, now: float) -> bool:
        """A request came that was sent `attempts` times before. Returns whether to look at it;
        False means that it is to be refused at once."""
        self._decay(now)
        if not attempts:
            self._came += 1.0
            return True
        if self._storming() and self._retries >= RETRIES * self._came:
            return False
        self._came += 1.0
        self._retries += 1.0
        return True

    def shed(self, now: float) -> None:
        """A request that was looked at was refused for load."""
        self._decay(now)
        self._shed += 1.0

    def wait(self, missing: float, attempts: int, draw: float) -> float:
        """How many seconds to tell a caller: at least what is `missing`, spread by `draw` (0 to
        1), twice as much for each time that it has come before, and more the more is shed."""
        share = self._shed / self._came if self._came >= FEWEST else 0.0
        # With a share s shed, one of 1 / (1 - s) gets through: so many waits for each.
        crowd = 1.0 / max(1.0 - share, 0.05)
        spread = missing * crowd * 2.0 ** min(attempts, STEPS)
        return missing + min(spread, LONGEST) * draw

    def _storming(self) -> bool:
        return self._came >= FEWEST and self._shed > SHEDDING * self._came

    def _decay(self, now: float) -> None:
        elapsed = now - self._until
        if elapsed > GRAIN:
            kept = math.exp(-elapsed / MEMORY) if elapsed < math.inf else 0.0
            self._came *= kept
            self._shed *= kept
            self._retries *= kept
            self._until = now
