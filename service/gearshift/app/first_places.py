"""A start with limits of memory: every variant is measured, one by one, and then what is worth most
is loaded, before anybody has asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import structlog

from gearshift.app.aside import LAST, aside
from gearshift.app.newcomers import Newcomers, too_large
from gearshift.app.parts import Progress, apart, make_workers, with_express
from gearshift.app.places import Found, Places
from gearshift.app.residing import Residing, Sizes, beside
from gearshift.app.settings import Settings
from gearshift.core.catalog import Catalog, Model, Variant
from gearshift.core.profile import Profiles
from gearshift.core.residency import Place, Placing, assumed, filled
from gearshift.engine import Engine
from gearshift.errors import ConfigurationInvalid, Problem, RepositoryInvalid
from gearshift.executors.key import log_left_out
from gearshift.ports import Executor, Worker
from gearshift.profiling import ProfileStore

log = structlog.get_logger(__name__)


def check_device_memory(settings: Settings) -> None:
    """ConfigurationInvalid where limits of memory are given and cannot be kept."""
    if not settings.device_memory_mib:
        return
    if settings.processes > 1:
        raise ConfigurationInvalid(
            f"setting device_memory_mib: each of {settings.processes} serving processes would load"
            " variants of its own, and callers would find other ones in each; set processes to 1"
        )
    if settings.worker_isolation == "process":
        raise ConfigurationInvalid(
            "setting device_memory_mib: worker processes hold a copy of each variant each, which no"
            " limit of a device counts; set worker_isolation to thread"
        )
    if find_spec("scipy") is None:
        raise ConfigurationInvalid(
            "setting device_memory_mib: what to load is decided with SciPy, which is not installed;"
            " run: pip install 'gearshift[residency]'"
        )


@dataclass(frozen=True, slots=True)
class First:
    """What is loaded at first, `resident`, of what there is."""

    limits: Mapping[str, float]
    profiles: Profiles
    workers: Sequence[Worker]
    sizes: Sizes
    resident: frozenset[Place]
    places: Places
    placing: Placing

    def served_by(self, engine: Engine) -> tuple[Residing, Newcomers]:
        """Who changes that while `engine` serves, and who loads models anew beside it."""
        residing = Residing(
            engine, self.limits, self.sizes, self.resident, self.places, beside(self.placing)
        )
        return residing, Newcomers(self.places, residing)


async def first_places(
    settings: Settings,
    catalog: Catalog,
    executors: Mapping[str, Executor],
    on_progress: Progress,
    first_worker: int,
) -> First:
    """Raises ConfigurationInvalid for a limit of a device that is not here, or that no variant of a
    model keeps to; RepositoryInvalid for what does not load."""
    # Only where it is needed: SciPy is an extra, and takes a moment.
    from gearshift.residency import Program

    limits = settings.device_memory
    places = Places(executors, ProfileStore(settings.state_dir), first_worker)
    found = await measured(catalog, places, limits, on_progress)
    workers = make_workers(settings, executors, first_worker)
    here = sorted({worker.device for worker in workers})
    for device in limits.keys() - set(here):
        raise ConfigurationInvalid(
            f"setting device_memory_mib: there is no device {device!r} here; there are"
            f" {', '.join(here)}"
        )
    profiles = Profiles(catalog.models, [each.profile for each in found.values()])
    for name in catalog.models:
        if not profiles.everywhere(name):
            raise ConfigurationInvalid(
                f"setting device_memory_mib: no variant of model {name!r} is as small as the memory"
                " of a device that it runs on; raise the limit, or leave the model out"
            )
    profiles, workers = with_express(catalog, profiles, workers, first_worker, apart(executors))
    sizes = Sizes({place: each.taken for place, each in found.items() if place.device in limits})
    everything = {name: profiles.everywhere(name) for name in catalog.models}
    devices = Counter(worker.device for worker in workers)
    problem = assumed(catalog.models, everything, devices, sizes.memory(limits))
    placing = Program()
    resident = filled(problem, await aside(lambda: placing.best(problem), LAST))
    for done, place in enumerate(sorted(resident)):
        on_progress(f"loading {place.model}/{place.variant}", done, len(resident))
        model = catalog.models[place.model]
        try:
            await places.load(model, model.by_name(place.variant), place.device)
        except ValueError as error:
            raise RepositoryInvalid([_problem(model, place.variant, str(error))]) from None
    for name in everything.keys() - {place.model for place in resident}:
        if None not in [problem.memory.place(name, profile) for profile in everything[name]]:
            log.warning("no variant of this model is loaded, for want of memory", model=name)
    return First(limits, profiles, workers, sizes, resident, places, placing)


async def measured(
    catalog: Catalog, places: Places, limits: Mapping[str, float], on_progress: Progress
) -> dict[Place, Found]:
    """What every variant takes on every device that it runs on. What has no limit there stays
    loaded, everything else is unloaded before the next one; and what is known is not even loaded.
    One that is larger than a device's memory is left out there. RepositoryInvalid with every
    variant that loads nowhere."""
    found: dict[Place, Found] = {}
    problems = []
    every = list(_variants(catalog))
    for done, (model, variant) in enumerate(every):
        on_progress(f"{model.name}/{variant.name}", done, len(every))
        failed: dict[str, str] = {}
        devices = await places.devices(variant)
        for device in devices:
            place = Place(model.name, variant.name, device)
            limit = limits.get(device)
            if limit is not None and too_large(
                model, variant, device, variant.artifact_bytes, limit
            ):
                continue
            known = await places.known(model, variant, device) if limit is not None else None
            if known is None:
                try:
                    known = await places.measure(model, variant, device, keep=limit is not None)
                except ValueError as error:
                    failed[device] = str(error)
                    continue
                if limit is not None:
                    await places.unload(model, variant, device)
            if known is not None and (
                limit is None or not too_large(model, variant, device, known.taken.size, limit)
            ):
                found[place] = known
        if failed and len(failed) == len(devices):
            reasons = "; ".join(dict.fromkeys(failed.values()))
            problems.append(_problem(model, variant.name, reasons))
        else:
            for device, reason in failed.items():
                log_left_out(log, model, variant, device, reason)
    if problems:
        raise RepositoryInvalid(problems)
    return found


def _variants(catalog: Catalog) -> Iterator[tuple[Model, Variant]]:
    for model in catalog.models.values():
        for variant in model.variants:
            yield model, variant


def _problem(model: Model, variant: str, reason: str) -> Problem:
    return Problem(f"{model.name}/{variant}", "", reason)
