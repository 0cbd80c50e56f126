"""The parts that every command puts together: executors, workers, a loaded catalog."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gearshift.app.settings import Settings
from gearshift.core.catalog import Catalog
from gearshift.core.profile import Profiles
from gearshift.errors import Problem, RepositoryInvalid
from gearshift.executors.onnx import OnnxExecutor
from gearshift.ports import Executor, Worker
from gearshift.profiling import ProfileStore, profile_catalog
from gearshift.repository import load

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many of it are done, and how many there are."""


def make_executors(settings: Settings) -> Mapping[str, Executor]:
    """Every executor that can run here, by the name that model.toml uses."""
    return {"onnx": OnnxExecutor(settings.providers)}


def make_workers(settings: Settings, executors: Mapping[str, Executor]) -> Sequence[Worker]:
    """`settings.workers` workers on each device that an executor offers."""
    devices = sorted({device for executor in executors.values() for device in executor.devices})
    places = [device for device in devices for _ in range(settings.workers)]
    return [Worker(index, device) for index, device in enumerate(places)]


def load_catalog(settings: Settings, executors: Mapping[str, Executor]) -> Catalog:
    """The repository as a catalog; RepositoryInvalid with every mistake in it."""
    return load(
        settings.repository, {name: executor.inspect for name, executor in executors.items()}
    )


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
