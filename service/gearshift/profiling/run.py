"""Profiling a whole catalog, and waking every variant up before the first request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog

from gearshift.core.catalog import Catalog, Model, Variant
from gearshift.core.profile import LatencyPoint, Profile, Profiles
from gearshift.errors import ExecutorFailed
from gearshift.ports import EXPRESS, REMOTE, SHORT, Executor, Worker
from gearshift.profiling.hardware import Hardware
from gearshift.profiling.inputs import InputMaker
from gearshift.profiling.measure import measure, short_up_to
from gearshift.profiling.store import ProfileStore

log = structlog.get_logger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with what is measured next, how many are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One variant on one device, measured on `worker`."""

    model: Model
    variant: Variant
    executor: Executor
    worker: Worker

    @property
    def name(self) -> str:
        return f"{self.model.name}/{self.variant.name} on {self.worker.device}"


async def profile_catalog(
    catalog: Catalog,
    executors: Mapping[str, Executor],
    workers: Sequence[Worker],
    store: ProfileStore | None,
    *,
    refresh: bool,
    on_progress: Progress,
    clock: Callable[[], float] = time.perf_counter,
) -> Profiles:
    """A profile of every variant on every device that has a worker and can run it.

    The variants must be loaded already. What `store` still knows is reused unless `refresh`;
    the rest is measured, one after the other, each on the first worker of its device.
    `on_progress` hears only of what is measured. ExecutorFailed names the variant that
    cannot be measured.
    """
    hardware = Hardware.here(executor.identity for executor in executors.values())
    first = {worker.device: worker for worker in reversed(workers)}
    jobs = list(_jobs(catalog, executors, list(first.values())))
    _report_unrunnable(catalog, jobs)
    profiles: list[Profile] = []
    missing: list[_Job] = []
    for job in jobs:
        known = None
        if store is not None and not refresh:
            known = store.load(hardware, job.model, job.variant, job.worker.device)
        if known is None:
            missing.append(job)
        else:
            profiles.append(_profile(job, known))
    for done, job in enumerate(missing):
        on_progress(job.name, done, len(missing))
        points = await _measured(job, clock)
        profiles.append(_profile(job, points))
        if store is not None:
            store.save(hardware, job.model, job.variant, job.worker.device, points)
    if missing:
        on_progress("measured", len(missing), len(missing))
    return Profiles(catalog.models, profiles)


async def warm_up(
    catalog: Catalog, executors: Mapping[str, Executor], workers: Sequence[Worker]
) -> None:
    """Run every variant on every worker that can, at the smallest and the largest batch.

    The first run of a session is slow; it must not be a caller's. Workers go side by side.
    ExecutorFailed names the variant that does not run.
    """

    async def warm(worker: Worker) -> None:
        for job in _jobs(catalog, executors, [worker]):
            maker = InputMaker(job.model)
            for rows in sorted({1, job.model.max_batch_size}):
                try:
                    await job.executor.run(job.worker, job.model, job.variant, maker.batch(rows))
                except Exception as error:
                    if job.worker.device != REMOTE:
                        raise _unable(job, error) from error
                    # Others serve until it does.
                    log.warning("a remote model does not run yet", what=job.name, reason=str(error))

    try:
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(warm(worker))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _jobs(
    catalog: Catalog, executors: Mapping[str, Executor], workers: Sequence[Worker]
) -> Iterator[_Job]:
    for model in catalog.models.values():
        for variant in model.variants:
            executor = executors[variant.executor]
            there = {each.device for each in executor.placed(model, variant) if each.runs}
            for worker in workers:
                if worker.device in there:
                    yield _Job(model, variant, executor, worker)


def _report_unrunnable(catalog: Catalog, jobs: Sequence[_Job]) -> None:
    runnable = {id(job.variant) for job in jobs}
    for model in catalog.models.values():
        for variant in model.variants:
            if id(variant) not in runnable:
                log.warning(
                    "no worker can run this variant", model=model.name, variant=variant.name
                )


def _profile(job: _Job, points: Sequence[LatencyPoint]) -> Profile:
    return Profile(job.variant, job.worker.device, points, job.model.max_batch_size)


async def _measured(job: _Job, clock: Callable[[], float]) -> list[LatencyPoint]:
    """Short runs as they will be made: at once, without a way to the worker and back."""
    near = (job.executor, Worker(job.worker.id, EXPRESS), job.model, job.variant)
    short: list[LatencyPoint] = []
    try:
        if job.worker.device == "cpu" and job.executor.runs_here:
            largest = await short_up_to(*near, clock=clock)
            if largest:
                points = await measure(*near, largest=largest, clock=clock)
                short = [point for point in points if point.p50 <= SHORT]
        if short and short[-1].batch == job.model.max_batch_size:
            return short
        points = await measure(job.executor, job.worker, job.model, job.variant, clock=clock)
        known = short[-1].batch if short else 0
        return [*short, *(point for point in points if point.batch > known)]
    except Exception as error:
        raise _unable(job, error) from error


def _unable(job: _Job, error: Exception) -> ExecutorFailed:
    """At the start the reader is who runs the server: the cause belongs into the message."""
    return ExecutorFailed(f"{job.name} does not run: {type(error).__name__}: {error}")
