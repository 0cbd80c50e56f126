"""Energy from a made powercap tree, and from a made library of NVIDIA's."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.telemetry import EnergyCollector
from gearshift.telemetry.energy import Domain, Unreadable, domains, gpus, powercap

RANGE = 1_000_000
"""Microjoules after which the made counters start again."""


def domain(root: Path, folder: str, name: str, microjoules: int) -> Path:
    made = root / folder
    made.mkdir(parents=True)
    (made / "name").write_text(name + "\n")
    (made / "max_energy_range_uj").write_text(f"{RANGE - 1}\n")
    counter = made / "energy_uj"
    counter.write_text(f"{microjoules}\n")
    return counter


def totals(collector: EnergyCollector) -> dict[str, float]:
    return {
        sample.labels["domain"]: pytest.approx(sample.value)
        for family in collector.collect()
        for sample in family.samples
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "intel-rapl").mkdir()  # the control type itself has no counter
    (tmp_path / "intel-rapl" / "enabled").write_text("1\n")
    return tmp_path


def test_each_domain_counts_from_the_start_of_the_server(root: Path) -> None:
    package = domain(root, "intel-rapl:0", "package-0", 400_000)
    memory = domain(root, "intel-rapl:0:1", "dram", 900_000)
    domain(root, "intel-rapl:1", "package-1", 5)
    domain(root, "intel-rapl:2", "psys", 7)
    # The same counters by another way would count everything twice.
    domain(root, "intel-rapl-mmio:0", "package-0", 3)
    collector = EnergyCollector(powercap(root))
    still = {"package-0": 0, "package-0/dram": 0, "package-1": 0, "psys": 0}
    assert totals(collector) == still
    package.write_text("650000\n")
    memory.write_text("910000\n")
    assert totals(collector) == still | {"package-0": 0.25, "package-0/dram": 0.01}


def test_a_counter_that_starts_again_goes_on(root: Path) -> None:
    counter = domain(root, "intel-rapl:0", "package-0", 900_000)
    collector = EnergyCollector(powercap(root))
    counter.write_text("100000\n")
    assert totals(collector) == {"package-0": 0.2}
    counter.write_text("90000\n")
    assert totals(collector) == {"package-0": 1.19}


def test_what_cannot_be_read_is_left_out(root: Path) -> None:
    domain(root, "intel-rapl:0", "package-0", 1).unlink()
    domain(root, "intel-rapl:1", "package-1", 1).write_text("\n")
    (root / "intel-rapl:2").mkdir()
    assert list(EnergyCollector(powercap(root)).collect()) == []
    assert powercap(root / "nowhere") == []


def test_one_that_fails_later_keeps_what_it_had(root: Path) -> None:
    counter = domain(root, "intel-rapl:0", "package-0", 0)
    collector = EnergyCollector(powercap(root))
    counter.write_text("300000\n")
    assert totals(collector) == {"package-0": 0.3}
    counter.unlink()
    assert totals(collector) == {"package-0": 0.3}
    counter.write_text("350000\n")
    assert totals(collector) == {"package-0": 0.35}


def test_this_machine_has_some_or_none() -> None:
    assert all(sum(totals(EnergyCollector([each])).values()) >= 0 for each in domains())


@given(st.lists(st.integers(0, RANGE - 1), min_size=1))
def test_no_energy_is_lost_while_it_is_read_once_a_round(steps: list[int]) -> None:
    used, start = 0, 123_456

    def read() -> float:
        return ((start + used) % RANGE) * 1e-6

    counted = Domain("package-0", read, RANGE * 1e-6, read())
    for step in steps:
        used += step
        counted.refresh()
    assert counted.total == pytest.approx(used * 1e-6)


class NvmlError(Exception):
    pass


def nvml(monkeypatch: pytest.MonkeyPatch, counters: list[float | None]) -> None:
    """A library that knows GPUs with these millijoules; None: one that does not count."""
    made = types.ModuleType("pynvml")

    def energy(index: int) -> float:
        found = counters[index]
        if found is None:
            raise NvmlError("not supported")
        return found

    def init() -> None:
        if not counters:
            raise NvmlError("no driver")

    made.NVMLError = NvmlError
    made.nvmlInit = init
    made.nvmlDeviceGetCount = lambda: len(counters)
    made.nvmlDeviceGetHandleByIndex = lambda index: index
    made.nvmlDeviceGetTotalEnergyConsumption = energy
    monkeypatch.setitem(sys.modules, "pynvml", made)


def test_gpus_that_count_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    counters: list[float | None] = [5_000.0, None, 70_000.0]
    nvml(monkeypatch, counters)
    collector = EnergyCollector(gpus())
    counters[0], counters[2] = 6_500.0, 200.0
    # The second was reset: a driver loaded anew counts from 0.
    assert totals(collector) == {"gpu-0": 1.5, "gpu-2": 0.2}


def test_without_a_driver_or_a_library_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml(monkeypatch, [])
    assert gpus() == []
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpus() == []


def test_a_gpu_that_is_lost_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml(monkeypatch, [None])
    with pytest.raises(Unreadable, match="not supported"):
        gpus()[0].read()
