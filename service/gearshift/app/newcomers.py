"""Models that are loaded anew where memory has limits: beside what is served, or not at all."""

from __future__ import annotations

import asyncio

import structlog

from gearshift.app.memory import told
from gearshift.app.places import Found, Places
from gearshift.app.residing import Residing
from gearshift.core.catalog import Catalog, Model, Variant
from gearshift.core.profile import Profiles
from gearshift.core.residency import Place
from gearshift.errors import Problem, RepositoryInvalid
from gearshift.executors.key import log_left_out

log = structlog.get_logger(__name__)


class Newcomers:
    """A new generation is loaded where its predecessor is, variant by variant, and what has no
    predecessor as far as there is room. What is loaded elsewhere is not touched for it: the slow
    loop makes room, by its rules."""

    def __init__(self, places: Places, residing: Residing) -> None:
        self._places = places
        self._residing = residing
        self._found: dict[Place, Found] = {}

    @property
    def turn(self) -> asyncio.Lock:
        """Taken from before the first load until after the exchange."""
        return self._residing.turn

    async def take_in(self, new: Catalog, served: Catalog) -> Profiles:
        """Load and measure the models of `new`, and unload again what does not stay.
        RepositoryInvalid where there is no room; what has been loaded then is still to be given
        back."""
        self._found = {}
        for model in new.models.values():
            await self._take_in(model, served.models.get(model.name))
        profiles = Profiles(new.models, [each.profile for each in self._found.values()])
        for name in new.models:
            if not profiles.everywhere(name):
                raise RepositoryInvalid(
                    [Problem(name, "", "none of its variants is as small as device_memory_mib")]
                )
        return profiles

    def exchanged(self, before: Catalog) -> None:
        """What was taken in last is served from now on, in the place of what was `before`."""
        limits = self._residing.limits
        taken = {p: each.taken for p, each in self._found.items() if p.device in limits}
        self._found = {}
        self._residing.exchanged(before, taken)

    def given_back(self, model: Model) -> None:
        """Nothing of a generation is loaded any more."""
        self._residing.given_back(model)

    async def _take_in(self, model: Model, before: Model | None) -> None:
        """What its predecessor has loaded comes first, then what it did not have, and at last what
        is only measured."""
        stays: dict[Place, float] = {}
        ranked = []
        old = set() if before is None else {variant.name for variant in before.variants}
        for variant in model.variants:
            for device in await self._places.devices(variant):
                place = Place(model.name, variant.name, device)
                rank = (
                    0 if place in self._residing.resident else 1 if variant.name not in old else 2
                )
                ranked.append((rank, place, variant))
        limited = True
        for rank, place, variant in sorted(ranked, key=lambda each: each[0]):
            try:
                if place.device in self._residing.limits:
                    await self._limited(model, variant, place, stays, rank)
                else:
                    found = await self._places.measure(model, variant, place.device, keep=False)
                    if found is not None:
                        self._found[place] = found
                        limited = False
            except ValueError as error:
                raise _refused(place, str(error)) from None
        if limited and not stays:
            raise _refused(
                Place(model.name, "", ""), "none of its variants finds room beside what is loaded"
            )

    async def _limited(
        self, model: Model, variant: Variant, place: Place, stays: dict[Place, float], rank: int
    ) -> None:
        """`stays` is what takes memory of this model, this one included if it does."""
        device, limit = place.device, self._residing.limits[place.device]
        known = await self._places.known(model, variant, device)
        size = float(variant.artifact_bytes if known is None else known.taken.size)
        if too_large(model, variant, device, size, limit):
            return
        if known is not None and (rank == 2 or (rank == 1 and size > self._residing.free(device))):
            self._found[place] = known
            return
        self._check_room(place, size)
        stays[place] = size
        self._residing.take(model, stays)
        if known is not None:
            await self._places.load(model, variant, device)
        else:
            known = await self._places.measure(model, variant, device, keep=False)
        size = 0.0 if known is None else float(known.taken.size)
        stays[place] = size
        self._residing.take(model, stays)
        left_out = known is None or too_large(model, variant, device, size, limit)
        if not left_out:
            # It may have turned out to be larger than its artifact.
            self._check_room(place, size, taken=size)
        if left_out or rank == 2:
            await self._places.unload(model, variant, device)
            del stays[place]
            self._residing.take(model, stays)
        if not left_out and known is not None:
            self._found[place] = known

    def _check_room(self, place: Place, size: float, taken: float = 0.0) -> None:
        """`taken`: what it takes already."""
        free = self._residing.free(place.device) + taken
        if size > free:
            raise _refused(
                place,
                f"it does not fit into the memory of {place.device} beside what is loaded: it takes"
                f" {told(size)}, and of {told(self._residing.limits[place.device])}"
                f" (device_memory_mib) {told(free)} are free; raise that, or unload a model before",
            )


def _refused(place: Place, reason: str) -> RepositoryInvalid:
    file = f"{place.model}/{place.variant}" if place.variant else place.model
    return RepositoryInvalid([Problem(file, "", reason)])


def too_large(model: Model, variant: Variant, device: str, size: float, limit: float) -> bool:
    """Whether it is left out there, which is told."""
    if size <= limit:
        return False
    reason = (
        f"it takes {told(size)}, and the memory of {device} is limited to {told(limit)}"
        " (device_memory_mib)"
    )
    log_left_out(log, model, variant, device, reason)
    return True
