"""A start where memory does not hold every variant: all are measured, and what fits is loaded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from builders import make_catalog, make_model
from gearshift.app.first_places import check_device_memory, first_places
from gearshift.app.settings import load_settings
from gearshift.core.residency import Place
from gearshift.errors import ConfigurationInvalid, ExecutorFailed, RepositoryInvalid
from gearshift.ports import EXPRESS
from sized_executor import MIB, SizedExecutor

SIZES = {"large": 1000, "middle": 600, "small": 200}
"""MiB: what the process itself grows by meanwhile is little beside them."""


def a_catalog(bytes_of=lambda name: SIZES[name] * MIB):
    model = make_model("m", {"large": 0.95, "middle": 0.9, "small": 0.8}, max_batch_size=2)
    variants = [
        replace(variant, artifact_bytes=bytes_of(variant.name), artifact_sha256=variant.name * 8)
        for variant in model.variants
    ]
    return make_catalog(replace(model, variants=tuple(variants)))


@pytest.fixture
def begin(tmp_path):
    async def begun(limits, executor, catalog=None):
        settings = load_settings(
            state_dir=tmp_path, repository=tmp_path, workers=1, device_memory_mib=limits
        )
        executors = {"fake": executor}
        return await first_places(settings, catalog or a_catalog(), executors, progress, 0)

    def progress(what, done, total):
        assert done <= total

    return begun


def on_cpu(*variants):
    return frozenset(Place("m", variant, "cpu") for variant in variants)


async def test_all_are_measured_one_by_one_and_what_fits_is_loaded(begin):
    executor = SizedExecutor(SIZES)
    first = await begin({"cpu": 1300}, executor)
    assert executor.most["cpu"] <= 1300 * MIB
    assert {name for name, _ in executor.loads} == SIZES.keys()
    # Which of the larger ones depends on how quickly each was measured to be.
    assert first.resident in (on_cpu("large", "small"), on_cpu("middle", "small"))
    assert executor.held() == sorted((place.variant, 1) for place in first.resident)
    known = {profile.variant.name for profile in first.profiles.everywhere("m")}
    assert known == SIZES.keys()
    memory = first.sizes.memory(first.limits)
    # Short runs are made with what the processor holds.
    express = [p for p in first.profiles.everywhere("m") if p.device == EXPRESS]
    assert express
    for profile in express:
        assert memory.place("m", profile) == Place("m", profile.variant.name, "cpu")
    for (_, variant), size in memory.sizes.items():
        assert SIZES[variant] * MIB <= size < (SIZES[variant] + 50) * MIB
    assert memory.limits == {"cpu": 1300 * MIB}


async def test_what_is_known_is_not_loaded_to_be_measured(begin):
    await begin({"cpu": 1300}, SizedExecutor(SIZES))
    again = SizedExecutor(SIZES)
    first = await begin({"cpu": 1300}, again)
    assert sorted(again.loads) == sorted((place.variant, "cpu") for place in first.resident)
    assert len(again.loads) == 2
    # Another artifact of that name is not known.
    model = a_catalog().models["m"]
    other = [replace(v, artifact_sha256=v.name * 9) for v in model.variants]
    third = SizedExecutor(SIZES)
    await begin({"cpu": 1300}, third, make_catalog(replace(model, variants=tuple(other))))
    assert {name for name, _ in third.loads} == SIZES.keys()


async def test_a_variant_larger_than_the_memory_is_left_out_and_told(begin):
    executor = SizedExecutor(SIZES)
    with capture_logs() as logs:
        first = await begin({"cpu": 900}, executor)
    # Its artifact alone says so: it is never loaded.
    assert "large" not in {name for name, _ in executor.loads}
    assert first.resident == on_cpu("middle", "small")
    (told,) = [line for line in logs if line["log_level"] == "warning"]
    assert (told["model"], told["variant"], told["device"]) == ("m", "large", "cpu")
    assert told["reason"] == (
        "it takes 1000 MiB, and the memory of cpu is limited to 900 MiB (device_memory_mib)"
    )


async def test_one_that_turns_out_to_be_larger_is_left_out_as_well(begin):
    executor = SizedExecutor(SIZES)
    first = await begin({"cpu": 900}, executor, a_catalog(lambda name: 1000))
    assert first.resident == on_cpu("middle", "small")
    assert "large" not in {p.variant.name for p in first.profiles.everywhere("m")}
    assert executor.held() == [("middle", 1), ("small", 1)]


async def test_a_model_that_fits_nowhere_is_told_before_anybody_is_served(begin):
    with pytest.raises(ConfigurationInvalid, match="no variant of model 'm' is as small"):
        await begin({"cpu": 100}, SizedExecutor(SIZES))


async def test_a_device_that_is_not_here_is_told(begin):
    with pytest.raises(ConfigurationInvalid, match="no device 'gpu3' here; there are cpu"):
        await begin({"gpu3": 5000}, SizedExecutor(SIZES))


async def test_a_device_without_a_limit_holds_everything(begin):
    executor = SizedExecutor(SIZES, ("cpu", "gpu0"))
    first = await begin({"gpu0": 1300}, executor)
    assert len(executor.held("cpu")) == 3
    assert executor.held("gpu0") == sorted((place.variant, 1) for place in first.resident)
    assert len(first.resident) == 2
    assert executor.most["gpu0"] <= 1300 * MIB
    assert {place.device for place in first.resident} == {"gpu0"}


async def test_every_variant_that_does_not_load_is_told(begin):
    executor = SizedExecutor(SIZES)
    executor.fails = {"large", "small"}
    with pytest.raises(RepositoryInvalid) as told:
        await begin({"cpu": 1300}, executor)
    assert [str(each) for each in told.value.problems] == [
        "m/large: large is broken",
        "m/small: small is broken",
    ]


async def test_one_that_does_not_run_ends_the_start_and_stays_nowhere(begin):
    executor = SizedExecutor(SIZES)
    executor.run_here = None
    with pytest.raises(ExecutorFailed, match="m/large on cpu does not run"):
        await begin({"cpu": 1300}, executor)
    assert not executor.held()


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"processes": 2, "workers": 2}, "each of 2 serving processes .* set processes to 1"),
        ({"worker_isolation": "process"}, "set worker_isolation to thread"),
    ],
)
def test_what_no_limit_could_count_is_refused(others, message):
    with pytest.raises(ConfigurationInvalid, match=f"device_memory_mib: .*{message}"):
        check_device_memory(load_settings(device_memory_mib={"cpu": 100}, **others))
    check_device_memory(load_settings(**others))


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    limited = load_settings(device_memory_mib={"cpu": 100})
    check_device_memory(limited)
    monkeypatch.setattr("gearshift.app.first_places.find_spec", lambda module: None)
    with pytest.raises(ConfigurationInvalid, match=r"pip install 'gearshift\[residency\]'"):
        check_device_memory(limited)
    check_device_memory(load_settings())
