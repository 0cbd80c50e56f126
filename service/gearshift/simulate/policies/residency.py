"""Who holds what, for baselines whose workers hold one variant each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gearshift.core.profile import Profile
from gearshift.simulate.policies.needs import Need


@dataclass(frozen=True, slots=True)
class Seat:
    """A variant of a model on a device, which some workers may hold."""

    model: str
    profile: Profile

    def serves(self, need: Need) -> bool:
        """Is this a variant of the model, and accurate enough?"""
        model, accuracy = need
        return self.model == model and self.profile.variant.accuracy >= accuracy


def settle(
    resident: dict[int, Seat | None], devices: Mapping[int, str], targets: Mapping[Seat, int]
) -> None:
    """Give each worker a seat, so many of each as `targets` says, leaving those that hold a
    wanted variant as they are. `devices` are those of the workers."""
    left = dict(targets)
    unsettled = []
    for worker, held in resident.items():
        if held is not None and left.get(held, 0):
            left[held] -= 1
        else:
            unsettled.append(worker)
    for worker in unsettled:
        resident[worker] = None
        for seat, count in left.items():
            if count and seat.profile.device == devices[worker]:
                left[seat] -= 1
                resident[worker] = seat
                break
