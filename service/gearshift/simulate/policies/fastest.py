"""Baseline: only the variant that costs least, however inaccurate it is."""

from __future__ import annotations

from gearshift.simulate.policies.any_worker import AnyWorker
from gearshift.simulate.policies.deadline_order import Choice, Queue, gather, leader


class Fastest(AnyWorker):
    """The end of the scale that loses least to the clock and most to the model.

    An idle worker gives the first request in deadline order the variant with the least
    worker time per row on its device that meets the request's floor and deadline, in a
    batch as large as that deadline allows.
    """

    def _choose(self, queue: Queue, device: str, now: float) -> Choice | None:
        try:
            _, able = leader(queue, self._profiles.on(queue.model, device), now)
        except LookupError:
            return None
        cheapest = min(able, key=lambda profile: (profile.row_cost, -profile.variant.accuracy))
        return gather(queue, cheapest, now)
