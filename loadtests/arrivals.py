"""Arrival times with a stated rate, burstiness, daily swing and flash crowd.

A renewal process with gamma gaps is drawn at rate 1 and then bent: the time of each arrival
is the moment by which as many were expected. So the swing and the crowd change the rate,
and the burstiness stays what was asked for at every moment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Moments = npt.NDArray[np.float64]

RESOLUTION = 0.05
"""Seconds between the points at which a changing rate is added up."""


@dataclass(frozen=True, slots=True)
class Flash:
    """A crowd that comes at once: `factor` times the rate for `length` seconds from `start`."""

    start: float
    length: float
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """`rate` a second on average without the crowd; CV squared 1 is Poisson, 4 is bursty.

    `swing` moves the rate up and down by that share of it, once in `period` seconds, the
    first quarter rising.
    """

    rate: float
    cv2: float = 1.0
    swing: float = 0.0
    period: float = 600.0
    flash: Flash | None = None

    def draw(self, duration: float, random: np.random.Generator) -> Moments:
        """Arrival times in seconds from 0 to `duration`, in order."""
        grid = np.linspace(0.0, duration, max(2, math.ceil(duration / RESOLUTION) + 1))
        middle = (grid[1:] + grid[:-1]) / 2
        rates = self.rate * (1 + self.swing * np.sin(2 * math.pi * middle / self.period))
        if self.flash is not None:
            end = self.flash.start + self.flash.length
            rates[(middle >= self.flash.start) & (middle < end)] *= self.flash.factor
        expected = np.concatenate(([0.0], np.cumsum(rates * np.diff(grid))))
        gaps = self._gaps(expected[-1], random)
        # The first gap is cut at a random point: the process did not begin at this moment.
        gaps[0] *= random.random()
        counted = np.cumsum(gaps)
        moments: Moments = np.interp(counted[counted < expected[-1]], expected, grid)
        return moments

    def _gaps(self, total: float, random: np.random.Generator) -> Moments:
        enough = int(total + 10 * math.sqrt(total * max(1.0, self.cv2)) + 100)
        return random.gamma(1 / self.cv2, self.cv2, enough)
