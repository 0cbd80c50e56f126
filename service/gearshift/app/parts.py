"""The parts that every command puts together: executors, workers, a loaded catalog."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog

from gearshift.app.settings import Settings
from gearshift.artifacts import Allowance
from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Catalog, Model, Signature, Variant
from gearshift.core.profile import Profile, Profiles
from gearshift.core.topology import homes
from gearshift.engine import Engine
from gearshift.errors import ConfigurationInvalid, Problem, RepositoryInvalid
from gearshift.executors.isolated import IsolatedExecutor
from gearshift.executors.onnx import OnnxExecutor
from gearshift.executors.providers import CPU
from gearshift.executors.pytorch import TorchExecutor, installed
from gearshift.executors.remote import RemoteExecutor
from gearshift.executors.trial import inspect_apart
from gearshift.ports import EXPRESS, REMOTE, SHORT, Executor, Placed, Worker
from gearshift.processes import topology, usable_cores
from gearshift.profiling import ProfileStore, profile_catalog
from gearshift.repository import Inspect, Stamp, contents, load, names, stamps
from gearshift.rpc import RpcServer

log = structlog.get_logger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many of it are done, and how many there are."""

EXPRESS_NUMBERS = 10_000
"""Where the express workers' numbers begin, one a process."""

ACCELERATED = 30_000
"""Where the numbers of workers on GPUs and other accelerators begin."""

REMOTE_NUMBERS, MOST_REMOTE = 100_000, 1_000
"""Where the numbers of workers on other servers begin, and how many a process may have."""

PREPARING = 20_000
"""Where the numbers of the workers begin on which variants are warmed up and measured beside
serving."""

LAST_ANSWERS = 1.0
"""Seconds that calls still open get at the very end; of the drain's time so long again and again as
their callers read on."""


def make_executors(settings: Settings) -> Mapping[str, Executor]:
    """Every executor that can run here, by the name that model.toml uses."""
    engines = settings.state_dir / "engines"
    if settings.worker_isolation == "process":
        # One more than there are workers: it measures what is loaded anew while those serve.
        isolated = IsolatedExecutor(
            settings.workers + 1,
            settings.providers,
            settings.worker_memory,
            settings.max_run_bytes,
            accelerated=settings.gpu_workers + 1,
            threads=settings.worker_threads,
            homes=_homes(settings.workers + 1, settings.worker_threads),
            engines=engines,
        )
        here: dict[str, Executor] = {"onnx": isolated}
        if installed():
            here["torch"] = isolated
    else:
        near = _homes(settings.workers, 1)
        here = {
            "onnx": OnnxExecutor(
                settings.providers,
                settings.max_run_bytes,
                # Those of the workers, and that of the express worker.
                runs=settings.workers + 1,
                homes=near,
                engines=engines,
            )
        }
        if installed():
            here["torch"] = TorchExecutor(homes=near)
    return {**here, "triton": RemoteExecutor(settings.state_dir)}


def _homes(workers: int, threads: int) -> Sequence[Sequence[int]]:
    """The processors that each worker of the processor keeps to; empty where it need not."""
    try:
        return homes(topology(usable_cores()), workers, threads)
    except ValueError as error:
        raise ConfigurationInvalid(f"setting worker_threads: {error}") from None


def make_workers(
    settings: Settings, executors: Mapping[str, Executor], first: int = 0
) -> Sequence[Worker]:
    """`settings.workers` workers on the processor and `settings.gpu_workers` on each other device
    that an executor offers; `first` is how many workers the processor has in the processes before
    this one, from whose numbers these must differ."""
    devices = sorted({device for executor in executors.values() for device in executor.devices})
    other = [device for device in devices if device not in (CPU, REMOTE)]
    places = [device for device in other for _ in range(settings.gpu_workers)]
    own = settings.workers if CPU in devices else 0
    return [
        *[Worker(first + index, CPU) for index in range(own)],
        # Each process before this one has a worker on the processor at least, and as many of these.
        *[
            Worker(ACCELERATED + first * len(places) + index, device)
            for index, device in enumerate(places)
        ],
        *remote_workers(executors, first),
    ]


def preparing_workers(executors: Mapping[str, Executor], first: int) -> Sequence[Worker]:
    """One on each device, to warm up and measure on beside serving; `first` as in
    `make_workers`."""
    devices = sorted({device for each in executors.values() for device in each.devices})
    return [Worker(PREPARING + first + index, device) for index, device in enumerate(devices)]


def placed(
    catalog: Catalog, executors: Mapping[str, Executor]
) -> Iterator[tuple[Model, Variant, Placed]]:
    """How each variant of the catalog is placed, device by device."""
    for model in catalog.models.values():
        for variant in model.variants:
            for each in executors[variant.executor].placed(model, variant):
                yield model, variant, each


def preparing_threads(settings: Settings) -> int:
    """How many threads make inputs of texts and pictures: half as many as run networks, and one
    that is for the other models."""
    return 1 + max(1, settings.workers // 2)


def remote_workers(executors: Mapping[str, Executor], first: int) -> Sequence[Worker]:
    """One for each place that the remote servers have for a batch of this process; `first` as in
    `make_workers`."""
    remote = executors.get("triton")
    if not isinstance(remote, RemoteExecutor):
        return []
    begin = REMOTE_NUMBERS + MOST_REMOTE * first
    return [Worker(begin + place, REMOTE) for place in range(min(remote.slots, MOST_REMOTE))]


def apart(executors: Mapping[str, Executor]) -> Collection[str]:
    """The executors that run nothing on the caller's thread: they have no express worker."""
    return {name for name, executor in executors.items() if not executor.runs_here}


def with_express(
    catalog: Catalog,
    profiles: Profiles,
    workers: Sequence[Worker],
    number: int,
    apart: Collection[str] = (),
) -> tuple[Profiles, Sequence[Worker]]:
    """Batches that a processor runs in no time go to a worker of their own; a variant whose
    larger ones take longer runs those where it did, and so do all of the executors in `apart`."""
    placed: list[Profile] = []
    short = 0
    for name in catalog.models:
        for profile in profiles.everywhere(name):
            within = 0
            if profile.device == "cpu" and profile.variant.executor not in apart:
                within = bisect_right(profile.p50s, SHORT) - 1
            if within:
                short += 1
                placed.append(Profile(profile.variant, EXPRESS, profile.points, within))
            if within < profile.max_batch:
                placed.append(profile)
    if not short:
        return profiles, workers
    express = Worker(EXPRESS_NUMBERS + number, EXPRESS)
    # First, because a run there begins at once and keeps nobody from a core.
    return Profiles(catalog.models, placed), (express, *workers)


def load_catalog(
    settings: Settings,
    executors: Mapping[str, Executor],
    generation: int = 1,
    *,
    unlearned: bool = False,
    out: Collection[str] = (),
    notes: list[Problem] | None = None,
) -> Catalog:
    """The repository as a catalog; RepositoryInvalid with every mistake in it. With `unlearned`
    cascades are as declared, for who learns them. The models in `out` are left out. `notes` gets
    what was passed over."""
    return load(
        settings.repository,
        inspectors(settings, executors),
        generation,
        unlearned=unlearned,
        only=[name for name in names(settings.repository) if name not in out] if out else None,
        allowance=allowance(settings),
        notes=notes,
    )


PARSED = frozenset({"onnx", "torch"})
"""Executors whose artifacts are parsed by libraries that may crash over them."""


def allowance(settings: Settings) -> Allowance:
    """How large artifacts may be, each and all together."""
    return Allowance(settings.max_artifact_bytes, settings.max_repository_bytes)


def inspectors(settings: Settings, executors: Mapping[str, Executor]) -> Inspect:
    """Who says what an artifact takes and gives, by executor."""
    known: dict[str, Callable[[Artifact], Signature]] = {
        name: executor.inspect for name, executor in executors.items()
    }
    if settings.try_apart:
        known |= dict.fromkeys(known.keys() & PARSED, inspect_apart)
    return known


@dataclass(frozen=True, slots=True)
class Loaded:
    """A catalog, and how its folders were before it was loaded: what changes meanwhile is found
    different. `contents` and `stamps` as in gearshift.repository."""

    catalog: Catalog
    contents: Mapping[str, str]
    stamps: Mapping[str, Stamp]


def first_load(
    settings: Settings,
    executors: Mapping[str, Executor],
    generation: int = 1,
    out: Collection[str] = (),
) -> Loaded:
    """As `load_catalog`, for who loads anew later."""
    before = stamps(settings.repository)
    held = contents(settings.repository, settings.max_artifact_bytes)
    return Loaded(load_catalog(settings, executors, generation, out=out), held, before)


def load_variants(catalog: Catalog, executors: Mapping[str, Executor]) -> None:
    """Make every variant ready to run; RepositoryInvalid with every one that fails."""
    problems = []
    for model in catalog.models.values():
        for variant in model.variants:
            try:
                executors[variant.executor].load(model, variant)
            except ValueError as error:
                problems.append(Problem(f"{model.name}/{variant.name}", "", str(error)))
    if problems:
        raise RepositoryInvalid(problems)


async def measure_profiles(
    settings: Settings,
    catalog: Catalog,
    executors: Mapping[str, Executor],
    workers: Sequence[Worker],
    *,
    refresh: bool,
    on_progress: Progress,
) -> Profiles:
    """Latency profiles of the whole catalog: kept ones where they fit, measured otherwise."""
    return await profile_catalog(
        catalog,
        executors,
        workers,
        ProfileStore(settings.state_dir),
        refresh=refresh,
        on_progress=on_progress,
    )


async def drain(within: float, engine: Engine, rpc: RpcServer) -> None:
    """Send the callers elsewhere, take nothing new, finish what was taken in within so many
    seconds, and end."""
    log.info("draining")
    await rpc.send_away()
    begun = time.monotonic()
    await engine.drain(within)
    left = within - (time.monotonic() - begun)
    await rpc.stop(grace=LAST_ANSWERS, most=left)
