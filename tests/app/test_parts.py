"""Which workers there are, and which runs go to the express worker."""

from __future__ import annotations

import math
from collections.abc import Collection

import pytest

from builders import ONE_VECTOR, make_catalog, make_model, make_profiles
from gearshift.app import parts
from gearshift.app.parts import EXPRESS_NUMBERS, make_executors, make_workers, with_express
from gearshift.app.settings import load_settings
from gearshift.core.topology import Cpu
from gearshift.errors import ConfigurationInvalid
from gearshift.executors.fake import FakeExecutor
from gearshift.ports import EXPRESS, SHORT, Worker

WORKERS = (Worker(0, "cpu"), Worker(1, "cpu"))


def placed(seconds: dict[str, tuple[float, float]], number: int = 0, apart: Collection[str] = ()):
    catalog = make_catalog(make_model("m", {"large": 0.9, "small": 0.8}, max_batch_size=10))
    measured = make_profiles(catalog, seconds)
    profiles, workers = with_express(catalog, measured, WORKERS, number, apart)
    most = {(p.variant.name, p.device): p.max_batch for p in profiles.everywhere("m")}
    return most, workers, profiles


def test_a_variant_whose_largest_batch_is_short_runs_nowhere_else():
    most, workers, profiles = placed({"large": (0.0, 0.010), "small": (SHORT / 2, SHORT / 20)})
    assert most == {("large", "cpu"): 10, ("small", EXPRESS): 10}
    assert workers == (Worker(EXPRESS_NUMBERS, EXPRESS), *WORKERS)
    (small,) = profiles.on("m", EXPRESS)
    assert small.p50(10) == SHORT


def test_short_batches_of_a_variant_run_on_the_express_worker_and_long_ones_do_not():
    most, _, profiles = placed({"large": (0.0, 0.010), "small": (SHORT / 2, SHORT / 10)})
    assert most == {("large", "cpu"): 10, ("small", EXPRESS): 5, ("small", "cpu"): 10}
    (small,) = profiles.on("m", EXPRESS)
    assert small.p50(5) <= SHORT
    assert small.p50(6) == math.inf


def test_without_a_short_batch_there_is_no_express_worker():
    most, workers, _ = placed({"large": (0.0, 0.010), "small": (SHORT, SHORT / 10)})
    assert most == {("large", "cpu"): 10, ("small", "cpu"): 10}
    assert workers == WORKERS


def test_each_process_numbers_its_own():
    _, workers, _ = placed({"large": (0.0, 1e-5), "small": (0.0, 1e-5)}, number=3)
    assert workers[0].id == EXPRESS_NUMBERS + 3


def test_what_runs_in_processes_of_their_own_has_no_express_worker():
    most, workers, _ = placed({"large": (0.0, 1e-5), "small": (0.0, 1e-5)}, apart={"fake"})
    assert most == {("large", "cpu"): 10, ("small", "cpu"): 10}
    assert workers == WORKERS


def of_devices(*devices: str):
    return {
        device: FakeExecutor(ONE_VECTOR, lambda variant, rows: 0.0, device=device)
        for device in devices
    }


def test_a_gpu_has_few_workers_and_the_processor_one_for_each_core():
    settings = load_settings(workers=3, gpu_workers=2)
    workers = make_workers(settings, of_devices("gpu1", "cpu", "gpu0"))
    assert [worker.device for worker in workers] == ["cpu"] * 3 + ["gpu0"] * 2 + ["gpu1"] * 2
    assert [worker.id for worker in workers[:3]] == [0, 1, 2]
    only = make_workers(settings, of_devices("gpu0"))
    assert [worker.device for worker in only] == ["gpu0", "gpu0"]


def test_no_two_processes_have_a_worker_of_the_same_number():
    """Shares of two workers, of one, and of one."""
    found = []
    for first, count in ((0, 2), (2, 1), (3, 1)):
        settings = load_settings(workers=count, gpu_workers=3)
        found += make_workers(settings, of_devices("cpu", "gpu0", "gpu1"), first)
    assert len({worker.id for worker in found}) == len(found) == 4 + 3 * 6


TWO_NODES = [Cpu(number, number // 4) for number in range(8)]


def test_workers_keep_to_a_node_where_there_are_several(monkeypatch):
    monkeypatch.setattr(parts, "topology", lambda cores: TWO_NODES)
    executors = make_executors(load_settings(workers=3, providers=["cpu"]))
    assert executors["onnx"]._threads._homes == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]


def test_more_threads_than_a_node_has_cores_are_refused(monkeypatch):
    monkeypatch.setattr(parts, "topology", lambda cores: TWO_NODES)
    settings = load_settings(worker_threads=5, worker_isolation="process", workers=1)
    with pytest.raises(ConfigurationInvalid, match=r"worker_threads: .*give at most 4"):
        make_executors(settings)
