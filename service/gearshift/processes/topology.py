"""The processors of this machine, as Linux tells them under /sys/devices/system
(Documentation/ABI/stable/sysfs-devices-node, Documentation/admin-guide/cputopology.rst)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from gearshift.core.topology import Cpu, cpu_list

SYSTEM = Path("/sys/devices/system")


def topology(allowed: Collection[int], system: Path = SYSTEM) -> Sequence[Cpu]:
    """Of the processors in `allowed`; where the system does not tell, each is a core of its own in
    the one node there is."""
    node_of: dict[int, int] = {}
    for folder in system.glob("node/node[0-9]*"):
        try:
            node = int(folder.name.removeprefix("node"))
            node_of |= dict.fromkeys(cpu_list((folder / "cpulist").read_text()), node)
        except (OSError, ValueError):
            continue
    return [
        Cpu(
            number,
            node_of.get(number, 0),
            _told(system, number, "physical_package_id", 0),
            _told(system, number, "core_id", number),
        )
        for number in sorted(allowed)
    ]


def _told(system: Path, number: int, name: str, otherwise: int) -> int:
    try:
        return int((system / "cpu" / f"cpu{number}" / "topology" / name).read_text())
    except (OSError, ValueError):
        return otherwise
