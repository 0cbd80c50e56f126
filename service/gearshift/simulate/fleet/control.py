"""The control loop of Kubernetes' HorizontalPodAutoscaler, which KEDA steers as well.

After "Horizontal Pod Autoscaling" in the Kubernetes documentation (autoscaling/v2): desired =
ceil(current x metric / target), nothing within the tolerance, the greatest of several metrics,
stabilization windows (the greatest recent recommendation when shrinking, the least when growing),
then the policies, then the bounds. KEDA leaves all of that to the HPA and only tells the metrics.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

EVERY = 15.0
"""Seconds between two looks: the default of --horizontal-pod-autoscaler-sync-period."""

TOLERANCE = 0.1
"""The default of --horizontal-pod-autoscaler-tolerance."""


class Proposal(NamedTuple):
    """What one metric asks for: its value as a multiple of the target at `pods` pods."""

    ratio: float
    pods: int


@dataclass(frozen=True, slots=True)
class Policy:
    """At most so many pods (`share` False), or such a share of them, in `period` seconds."""

    value: float
    period: float
    share: bool = False


@dataclass(frozen=True, slots=True)
class Behavior:
    """Of one direction. Of the policies the one that allows the greatest change holds."""

    window: float
    policies: Sequence[Policy]


UP = Behavior(0.0, (Policy(1.0, 15.0, share=True), Policy(4, 15.0)))
DOWN = Behavior(300.0, (Policy(1.0, 15.0, share=True),))
"""The defaults of autoscaling/v2."""


@dataclass
class Control:
    """One autoscaler. `least` and `most` are minReplicas and maxReplicas."""

    least: int
    most: int
    up: Behavior = UP
    down: Behavior = DOWN
    _recent: deque[tuple[float, int]] = field(default_factory=deque)
    _changes: deque[tuple[float, int]] = field(default_factory=deque)

    def pods(self, current: int, proposals: Sequence[Proposal], now: float) -> int:
        """How many there should be from now on, of `current`. Call it every EVERY seconds."""
        wished = max((_wished(current, each) for each in proposals), default=current)
        wished = self._stabilized(current, wished, now)
        wished = min(self._highest(current, now), max(self._lowest(current, now), wished))
        wished = min(self.most, max(self.least, wished))
        if wished != current:
            self._changes.append((now, wished - current))
        return wished

    def _stabilized(self, current: int, wished: int, now: float) -> int:
        if not self._recent:
            # As the HPA does when it begins: it must not shrink for want of a past.
            self._recent.append((now, current))
        longest = max(self.up.window, self.down.window)
        while self._recent and self._recent[0][0] <= now - longest:
            self._recent.popleft()
        least = min([wished, *(w for at, w in self._recent if at > now - self.up.window)])
        most = max([wished, *(w for at, w in self._recent if at > now - self.down.window)])
        self._recent.append((now, wished))
        return min(most, max(current, least))

    def _highest(self, current: int, now: float) -> int:
        found = current
        for policy in self.up.policies:
            start = current - self._change(policy.period, now)
            allowed = start * (1.0 + policy.value) if policy.share else start + policy.value
            found = max(found, math.ceil(allowed))
        return found

    def _lowest(self, current: int, now: float) -> int:
        found = current
        for policy in self.down.policies:
            start = current - self._change(policy.period, now)
            allowed = start * (1.0 - policy.value) if policy.share else start - policy.value
            found = min(found, math.floor(allowed))
        return found

    def _change(self, period: float, now: float) -> int:
        """How many more there are than `period` seconds ago."""
        return sum(by for at, by in self._changes if at > now - period)


def _wished(current: int, proposal: Proposal) -> int:
    if math.isnan(proposal.ratio) or abs(proposal.ratio - 1.0) <= TOLERANCE:
        return current
    # Not one pod more for a rounding error.
    return math.ceil(proposal.ratio * proposal.pods - 1e-9)
