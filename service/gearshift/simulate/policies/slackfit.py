"""Baseline: the head's slack picks a latency bucket, the bucket a variant and a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gearshift.core.catalog import Catalog
from gearshift.core.profile import Profile, Profiles
from gearshift.simulate.policies.any_worker import AnyWorker
from gearshift.simulate.policies.deadline_order import (
    Choice,
    Queue,
    accepts,
    gather,
)

BUCKETS = 16
"""Evenly spaced between the shortest and the longest run of a model on a device."""


@dataclass(frozen=True, slots=True)
class _Tuple:
    """SuperServe's control tuple: a variant and a batch size, and the bucket of its latency."""

    bucket: int
    batch: int
    profile: Profile
    seconds: float


class SlackFit(AnyWorker):
    """SlackFit of SuperServe (Khare et al., NSDI '25), for many models on several devices.

    Faithful: offline, every (variant, batch size) falls into one of evenly spaced latency
    buckets; online, the slack of the most urgent request picks the highest bucket that
    still fits into it, and there the largest batch wins, then the highest accuracy. Much
    slack means little load, and the high buckets hold the accurate variants; little slack
    means a queue, and the low buckets hold the fast ones.

    Approximations: the paper has one weight-shared network on equal GPUs; here each (model,
    device) has its own buckets, an idle worker takes the model whose head is due first, and
    of several idle devices the one that answers most accurately. A batch larger than the
    queue is not considered (its latency would be paid for nobody). All variants are loaded
    on every worker, which is what the paper's weight sharing is for.
    """

    def __init__(
        self,
        catalog: Catalog,
        profiles: Profiles,
        workers: Mapping[int, str],
        buckets: int = BUCKETS,
    ) -> None:
        super().__init__(catalog, profiles, workers)
        self._tuples = {
            (model, device): _tuples(profiles.on(model, device), buckets)
            for model in catalog.models
            for device in self._devices
        }

    def _choose(self, queue: Queue, device: str, now: float) -> Choice | None:
        tuples = self._tuples[queue.model, device]
        if not tuples:
            return None
        waiting = len(queue)
        shortest = min(choice.seconds for choice in tuples)
        for head in queue.due_from(now + shortest):
            slack = head.deadline - now
            # Best first: the first that fits is the one of the highest bucket.
            for choice in tuples:
                if (
                    choice.seconds <= slack
                    and choice.batch <= waiting
                    and accepts(head, choice.profile)
                ):
                    return gather(queue, choice.profile, now, choice.batch)
        return None

    def _rank(self, choice: Choice) -> tuple[float, ...]:
        profile, _ = choice
        return (-profile.variant.accuracy, *super()._rank(choice))


def _tuples(gears: tuple[Profile, ...], buckets: int) -> list[_Tuple]:
    """Every control tuple, highest bucket first, then the largest batch, then accuracy."""
    if not gears:
        return []
    choices = [
        (profile, point.batch, profile.p99(point.batch))
        for profile in gears
        for point in profile.points
    ]
    low = min(seconds for *_, seconds in choices)
    high = max(seconds for *_, seconds in choices)
    width = (high - low) / buckets or 1.0
    tuples = [
        _Tuple(min(buckets - 1, int((seconds - low) / width)), batch, profile, seconds)
        for profile, batch, seconds in choices
    ]
    return sorted(
        tuples, key=lambda t: (-t.bucket, -t.batch, -t.profile.variant.accuracy, t.seconds)
    )
