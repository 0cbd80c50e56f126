"""Profiling a whole catalog: what is measured, what is reused, what is reported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from builders import make_catalog, make_model
from gearshift.core.catalog import Catalog
from gearshift.core.profile import Profiles
from gearshift.errors import ExecutorFailed
from gearshift.ports import EXPRESS, SHORT, Worker
from gearshift.profiling import ProfileStore, profile_catalog, warm_up

WORKERS = [Worker(0, "cpu"), Worker(1, "cpu"), Worker(2, "gpu")]
CATALOG = make_catalog(make_model("a", max_batch_size=2), make_model("b", max_batch_size=1))
ALL = ["a/large on cpu", "a/small on cpu", "b/large on cpu", "b/small on cpu"]


class Progress(list[tuple[str, int, int]]):
    def __call__(self, what: str, done: int, total: int) -> None:
        self.append((what, done, total))

    @property
    def measured(self) -> list[str]:
        return [what for what, done, total in self if done < total]


async def profile(
    executor: Any,
    progress: Progress,
    store: ProfileStore | None = None,
    *,
    catalog: Catalog = CATALOG,
    refresh: bool = False,
) -> Profiles:
    return await profile_catalog(
        catalog,
        {"fake": executor},
        WORKERS,
        store,
        refresh=refresh,
        on_progress=progress,
        clock=executor.clock,
    )


async def test_every_variant_is_measured_on_the_first_worker(executor: Any) -> None:
    progress = Progress()
    profiles = await profile(executor, progress)
    assert progress.measured == ALL
    assert progress[-1] == ("measured", 4, 4)
    assert {worker for worker, _, _ in executor.runs} == {0}
    large, small = profiles.on("a", "cpu")
    assert (large.variant.name, small.variant.name) == ("large", "small")
    assert large.p99(2) == pytest.approx(0.012)
    assert profiles.on("a", "gpu") == ()


async def test_short_runs_are_measured_as_they_will_be_made(executor: Any) -> None:
    """On the spot; with the way to a worker's thread they would look many times as long."""
    executor.seconds = lambda variant, rows, run: 2e-5 if variant == "small" else 2e-3
    profiles = await profile(executor, Progress())
    small = {
        place for place, run in zip(executor.places, executor.runs, strict=True) if "small" in run
    }
    assert small == {EXPRESS}
    assert "cpu" in executor.places
    assert [p.device for p in profiles.everywhere("a")] == ["cpu", "cpu"]


@pytest.mark.parametrize("median", [0.9 * SHORT, 1.1 * SHORT])
async def test_what_is_short_only_now_and_then_is_measured_on_a_worker(
    executor: Any, median: float
) -> None:
    executor.seconds = lambda variant, rows, run: 0.5 * SHORT if run == 1 else median
    await profile(executor, Progress(), catalog=make_catalog(make_model("a", max_batch_size=1)))
    assert executor.places[0] == EXPRESS
    assert executor.places[-1] == (EXPRESS if median <= SHORT else "cpu")


async def test_a_variant_whose_largest_batch_is_long_is_measured_on_a_worker(
    executor: Any,
) -> None:
    executor.seconds = lambda variant, rows, run: 0.6 * SHORT * rows
    profiles = await profile(executor, Progress())
    assert executor.places.count("cpu") > executor.places.count(EXPRESS) / 2
    assert profiles.on("a", "cpu")[0].p50(2) == pytest.approx(1.2 * SHORT)


async def test_every_device_that_the_executor_has_is_measured(executor: Any) -> None:
    executor.devices = ("cpu", "gpu", "elsewhere")
    profiles = await profile(executor, Progress())
    assert {worker for worker, _, _ in executor.runs} == {0, 2}
    assert len(profiles.on("b", "gpu")) == 2


async def test_kept_profiles_are_reused(executor: Any, tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    first = await profile(executor, Progress(), store)
    executor.runs.clear()
    progress = Progress()
    again = await profile(executor, progress, store)
    assert executor.runs == []
    assert progress == []
    for name in CATALOG.models:
        assert [p.points for p in again.everywhere(name)] == [
            p.points for p in first.everywhere(name)
        ]


async def test_refresh_measures_again_and_keeps_the_newer(executor: Any, tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    await profile(executor, Progress(), store)
    executor.seconds = lambda variant, rows, run: 0.5
    progress = Progress()
    await profile(executor, progress, store, refresh=True)
    assert progress.measured == ALL
    assert (await profile(executor, Progress(), store)).on("a", "cpu")[0].p50(1) == 0.5


async def test_only_what_changed_is_measured_again(executor: Any, tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    await profile(executor, Progress(), store)
    model = CATALOG.model("a")
    changed = replace(
        model, variants=(replace(model.variants[0], artifact_sha256="new"), model.variants[1])
    )
    progress = Progress()
    await profile(executor, progress, store, catalog=make_catalog(changed))
    assert progress.measured == ["a/large on cpu"]


async def test_another_executor_version_is_other_hardware(executor: Any, tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    await profile(executor, Progress(), store)
    executor.identity = "timed 2.0"
    progress = Progress()
    await profile(executor, progress, store)
    assert progress.measured == ALL


async def test_without_a_writable_folder_everything_is_measured(
    executor: Any, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    progress = Progress()
    with capture_logs() as lines:
        await profile(executor, progress, ProfileStore(blocked))
    assert progress.measured == ALL
    assert len(lines) == 1


async def test_a_variant_that_no_worker_can_run_is_reported(executor: Any) -> None:
    executor.devices = ("elsewhere",)
    with capture_logs() as lines:
        profiles = await profile(executor, Progress())
    assert profiles.everywhere("a") == ()
    assert [(line["model"], line["variant"]) for line in lines][:2] == [
        ("a", "large"),
        ("a", "small"),
    ]


async def test_a_variant_that_fails_is_named(executor: Any) -> None:
    def broken(variant: str, rows: int, run: int) -> float:
        raise RuntimeError("out of memory")

    executor.seconds = broken
    with pytest.raises(ExecutorFailed, match="a/large on cpu does not run: RuntimeError: out of"):
        await profile(executor, Progress())


async def test_warm_up_runs_everything_on_every_worker(executor: Any) -> None:
    await warm_up(CATALOG, {"fake": executor}, WORKERS)
    on_first = [(variant, rows) for worker, variant, rows in executor.runs if worker == 0]
    assert on_first == [
        ("large", 1),
        ("large", 2),
        ("small", 1),
        ("small", 2),
        ("large", 1),
        ("small", 1),
    ]
    assert {worker for worker, _, _ in executor.runs} == {0, 1}


async def test_warm_up_names_what_does_not_run(executor: Any) -> None:
    def broken(variant: str, rows: int, run: int) -> float:
        raise RuntimeError("no such device")

    executor.seconds = broken
    with pytest.raises(ExecutorFailed, match="a/large on cpu does not run"):
        await warm_up(CATALOG, {"fake": executor}, WORKERS)
