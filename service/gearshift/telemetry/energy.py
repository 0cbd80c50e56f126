"""Energy that the machine says it has used, where it says so.

Processors: Linux's powercap tree (Documentation/power/powercap/powercap.rst in the kernel), in
which Intel's and AMD's Running Average Power Limit counters stand under the same names. Its files
belong to root on most systems, and containers do not see them: then there are no such series.
GPUs: NVIDIA's management library, where the extra `gpu` and a driver are installed.

It is the energy of the whole machine, whoever used it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

POWERCAP = Path("/sys/class/powercap")


class Unreadable(Exception):
    """A counter cannot be read."""


@dataclass(slots=True)
class Domain:
    """One counter of energy. `read` gives joules and raises Unreadable; it starts again at 0
    after `range_` joules, as RAPL's do every few hours under load (0: it does not)."""

    name: str
    read: Callable[[], float]
    range_: float = 0.0
    last: float = 0.0
    total: float = 0.0

    def refresh(self) -> None:
        """Add what was used since the last time; nothing where it cannot be read now."""
        try:
            now = self.read()
        except Unreadable:
            return
        used = now - self.last
        if used < 0:
            # Without a range it was reset, by a driver that was loaded anew.
            used = used + self.range_ if self.range_ else now
        self.total += max(used, 0.0)
        self.last = now


class EnergyCollector(Collector):
    """`gearshift_energy_joules_total` by domain, from the moment on at which this is made.

    To be asked more often than a counter takes to come around: the frontier watch does it every
    few seconds, whoever scrapes or not.
    """

    def __init__(self, domains: Sequence[Domain]) -> None:
        self._domains: list[Domain] = []
        # Pages are asked for on more than one thread.
        self._reading = threading.Lock()
        for domain in domains:
            try:
                domain.last = domain.read()
            except Unreadable:
                continue
            self._domains.append(domain)

    def collect(self) -> Iterator[Metric]:
        if not self._domains:
            return
        family = CounterMetricFamily(
            "gearshift_energy_joules",
            "Energy that the whole machine used since the server was started, by domain; a part of"
            " a package is named package/part.",
            labels=("domain",),
        )
        with self._reading:
            for domain in self._domains:
                domain.refresh()
                family.add_metric((domain.name,), domain.total)
        yield family


def domains() -> list[Domain]:
    """All that this machine reports."""
    return [*powercap(POWERCAP), *gpus()]


def powercap(root: Path) -> list[Domain]:
    """The RAPL domains under `root`: packages, their parts as `package-0/dram`, and the platform
    (`psys`, which contains the packages). Energy is in microjoules there.

    `intel-rapl-mmio` is left out: the same counters by another way.
    """
    found = []
    for folder in sorted(root.glob("intel-rapl:*")):
        parent = folder.name.rpartition(":")[0]
        try:
            name = _text(folder / "name")
            if ":" in parent:
                name = f"{_text(root / parent / 'name')}/{name}"
            # The range is that of the greatest value: after it comes 0.
            range_ = (float(_text(folder / "max_energy_range_uj")) + 1) * 1e-6
        except (Unreadable, ValueError):
            continue
        found.append(Domain(name, _microjoules(folder / "energy_uj"), range_))
    return found


def _microjoules(file: Path) -> Callable[[], float]:
    def read() -> float:
        try:
            return float(_text(file)) * 1e-6
        except ValueError as error:
            raise Unreadable(str(error)) from None

    return read


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError as error:
        raise Unreadable(str(error)) from None


def gpus() -> list[Domain]:
    """`gpu-0` and so on, of every GPU that counts its energy (Volta and later)."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())
        ]
    except pynvml.NVMLError:
        return []  # no driver

    def reader(handle: object) -> Callable[[], float]:
        def read() -> float:
            try:
                return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) * 1e-3
            except pynvml.NVMLError as error:
                raise Unreadable(str(error)) from None

        return read

    return [Domain(f"gpu-{index}", reader(handle)) for index, handle in enumerate(handles)]
