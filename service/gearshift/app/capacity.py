"""What `gearshift plan` plans with, where it comes from a repository: its catalog, the profiles
measured for it, and what its variants take of the memory."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from gearshift.app import parts
from gearshift.app.memory import give_back
from gearshift.app.settings import Settings
from gearshift.core.catalog import Catalog
from gearshift.core.profile import Profile, Profiles
from gearshift.ports import Executor, Worker
from gearshift.profiling import ProfileStore, warm_up
from gearshift.profiling.hardware import Hardware
from gearshift.prometheus.requests import History, request_rates
from gearshift.simulate.mistakes import Mistakes
from gearshift.simulate.planning.inputs import Inputs, as_declared, check_devices, make_pod
from gearshift.simulate.planning.kinds import Kind, read_kinds
from gearshift.simulate.planning.limits import idle_gear
from gearshift.simulate.planning.moments import moment
from gearshift.simulate.planning.pod import Pod, VariantName
from gearshift.simulate.planning.traffic import Asking, Recorded, Steady, Traffic
from gearshift.simulate.table import SourceFile
from gearshift.simulate.workload_file import read_workload

MEGABYTE = 1e6
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Which past to ask a Prometheus for: windows and time in seconds, the quantile of the
    moments (1 for the busiest)."""

    url: str
    window: float
    over: float
    quantile: float
    timeout: float
    selector: str


def place_express(
    catalog: Catalog,
    profiles: Profiles,
    workers: Mapping[int, str],
    apart: Collection[str] = (),
) -> tuple[Profiles, Mapping[int, str]]:
    """Where the server itself runs short batches; those of the executors in `apart` it does not."""
    listed = [Worker(number, device) for number, device in workers.items()]
    placed, with_express = parts.with_express(catalog, profiles, listed, 0, apart)
    return placed, {worker.id: worker.device for worker in with_express}


async def from_repository(
    settings: Settings,
    kinds_file: Path,
    wanted: Path | Past,
    *,
    server: float,
    load: float,
    on_progress: parts.Progress,
) -> Inputs:
    """Pods that serve the repository, for a workload file or the past of a Prometheus.

    Profiles of kinds without `hardware` are those of this machine, measured now where none are
    kept; those of others are in the state dir. Raises ConfigurationInvalid.
    """
    mistakes = Mistakes()
    kinds = read_kinds(kinds_file, mistakes)
    executors = parts.make_executors(settings)
    catalog = parts.load_catalog(settings, executors)
    workload = None
    if isinstance(wanted, Path):
        workload = read_workload(wanted, catalog.models, mistakes)
    mistakes.raise_if_any()
    past = None if isinstance(wanted, Path) else _asked(wanted, catalog, mistakes)
    if workload is not None:
        workload = as_declared(workload, catalog, mistakes)
    mistakes.raise_if_any()
    names = workload.models if workload is not None else [m for m, _ in past.rates] if past else []
    catalog = Catalog(catalog.generation, {n: catalog.models[n] for n in dict.fromkeys(names)})
    here = [kind for kind in kinds if not kind.hardware]
    there = sorted({device for each in executors.values() for device in each.devices})
    check_devices(kinds_file, here, there, mistakes)
    mistakes.raise_if_any()
    try:
        memory = await _memory(catalog, executors, on_progress)
        profiles = {"": await _measured(settings, catalog, executors, on_progress)} if here else {}
    finally:
        for executor in executors.values():
            executor.close()
    for kind in kinds:
        if kind.hardware:
            known = profiles.setdefault(kind.hardware, Profiles(catalog.models, []))
            kept = [p for name in catalog.models for p in known.everywhere(name)]
            kept += _kept(settings, catalog, kind, kinds_file, mistakes)
            profiles[kind.hardware] = Profiles(catalog.models, kept)
    mistakes.raise_if_any()
    place = partial(place_express, apart=parts.apart(executors))
    pods = {
        kind.name: make_pod(kind, catalog, profiles[kind.hardware], memory, place, server)
        for kind in kinds
    }
    traffic: Traffic
    notes: tuple[str, ...] = ()
    if workload is not None:
        traffic, source = Recorded(workload, load), workload.source
    else:
        assert past is not None
        assert isinstance(wanted, Past)
        traffic, notes = _steady(past, wanted, catalog, next(iter(pods.values())), load)
        source = SourceFile(wanted.url, "")
    return Inputs(
        pods=pods,
        traffic=traffic,
        models=tuple(catalog.models),
        sources={"workload": source},
        notes=notes,
    )


async def _measured(
    settings: Settings,
    catalog: Catalog,
    executors: Mapping[str, Executor],
    on_progress: parts.Progress,
) -> Profiles:
    workers = parts.make_workers(settings, executors)
    return await parts.measure_profiles(
        settings, catalog, executors, workers, refresh=False, on_progress=on_progress
    )


async def _memory(
    catalog: Catalog, executors: Mapping[str, Executor], on_progress: parts.Progress
) -> Mapping[VariantName, float]:
    """Megabytes by which the process grew when the variant was loaded and had run its smallest
    and its largest batch; all variants are loaded afterwards."""
    found = {}
    every = [(model, variant) for model in catalog.models.values() for variant in model.variants]
    for done, (model, variant) in enumerate(every):
        on_progress(f"loading {model.name}/{variant.name}", done, len(every))
        alone = replace(model, variants=(variant,), cascades=())
        only = Catalog(catalog.generation, {model.name: alone})
        before = _resident()
        parts.load_variants(only, executors)
        device = executors[variant.executor].devices[0]
        await warm_up(only, executors, [Worker(0, device)])
        give_back()
        grown = _resident() - before
        # A variant that fits into what another one has left behind still has its weights.
        found[model.name, variant.name] = max(grown, variant.artifact_bytes) / MEGABYTE
    return found


def _resident() -> int:
    """Bytes of this process in memory; 0 where the system does not tell."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _kept(
    settings: Settings, catalog: Catalog, kind: Kind, file: Path, mistakes: Mistakes
) -> list[Profile]:
    """The profiles of another machine, from its folder in the state dir."""
    store = ProfileStore(settings.state_dir)
    hardware = Hardware(kind.hardware, kind.hardware)
    found = []
    for model in catalog.models.values():
        for variant in model.variants:
            for device in kind.devices:
                points = store.load(hardware, model, variant, device)
                if points is None:
                    folder = settings.state_dir / "profiles" / kind.hardware
                    mistakes.add(
                        str(file),
                        None,
                        "hardware",
                        f"{folder} has no fitting profile of {model.name}/{variant.name} on"
                        f" {device!r}; copy that folder from a server of kind {kind.name!r} that"
                        f" serves this repository",
                    )
                    continue
                found.append(Profile(variant, device, points, model.max_batch_size))
    return found


def _asked(past: Past, catalog: Catalog, mistakes: Mistakes) -> History:
    """What Prometheus has of the models and classes of the catalog."""
    history = request_rates(
        past.url,
        window=past.window,
        over=past.over,
        now=time.time(),
        timeout=past.timeout,
        selector=past.selector,
    )
    for name, service_class in history.rates:
        model = catalog.models.get(name)
        if model is None or (service_class and service_class not in model.classes):
            mistakes.add(
                f"--prometheus {past.url}",
                None,
                "",
                f"has requests for {name}/{service_class}, which the repository does not have;"
                f" give the repository that is served, or leave them out with --select",
            )
    return History(history.times, {p: r for p, r in history.rates.items() if all(p)})


def _steady(
    history: History, past: Past, catalog: Catalog, pod: Pod, load: float
) -> tuple[Traffic, tuple[str, ...]]:
    """The moment to plan for, as rates with the budgets and floors of their classes."""

    def asking(pair: tuple[str, str], rate: float) -> Asking:
        service_class = catalog.models[pair[0]].classes[pair[1]]
        return Asking(pair, service_class.budget, service_class.floor, rate)

    seconds = {}
    for pair in history.rates:
        gear = idle_gear(pod, asking(pair, 1.0))
        seconds[pair] = gear.row_cost if gear is not None else 0.0
    place, _ = moment(history.rates, seconds, past.quantile)
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(history.times[place]))
    asked: Sequence[Asking] = [
        asking(pair, float(rates[place]) * load)
        for pair, rates in history.rates.items()
        if rates[place] > 0
    ]
    if math.isclose(past.quantile, 1.0):
        which = "the busiest"
    else:
        which = f"busier than {100 * past.quantile:g} %"
    note = (
        f"Planned for the {past.window:g} s before {at}, {which} of {len(history.times)} windows;"
        f" within it requests come independently of each other (Poisson)."
    )
    return Steady(asked, past.url), (note,)
