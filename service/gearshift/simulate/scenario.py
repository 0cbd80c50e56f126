"""A scenario: everything that a simulation is given, read and checked together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gearshift.core.catalog import Catalog
from gearshift.core.profile import Profiles
from gearshift.core.residency import Memory
from gearshift.simulate.memory_spec import memory_of, parse_memory
from gearshift.simulate.mistakes import Mistakes
from gearshift.simulate.profile_file import read_profiles
from gearshift.simulate.table import SourceFile
from gearshift.simulate.worker_spec import OPTION, number_workers, parse_workers
from gearshift.simulate.workload_file import Workload, read_workload


@dataclass(frozen=True, slots=True)
class Scenario:
    """Models with their profiles, the requests for them, the workers, by id and device, and the
    memory of their devices, in megabytes, where it is limited."""

    catalog: Catalog
    profiles: Profiles
    workload: Workload
    workers: Mapping[int, str]
    sources: Mapping[str, SourceFile]
    memory: Memory | None = None

    @property
    def counts(self) -> Mapping[str, int]:
        """How many workers there are of each device."""
        counts: dict[str, int] = {}
        for device in self.workers.values():
            counts[device] = counts.get(device, 0) + 1
        return counts


def load_scenario(
    profiles: Path, workload: Path, workers: str, memory: str = "", loading: float = math.inf
) -> Scenario:
    """Read both files and the workers' and the memory's specification; `loading` is in megabytes a
    second.

    Raises ConfigurationInvalid with every mistake in all of them (the first 20, then a
    count), each with its file, line and column and with what would be right.
    """
    mistakes = Mistakes()
    profile_file = read_profiles(profiles, mistakes)
    models = devices = None
    if profile_file is not None:
        models, devices = profile_file.points.keys(), profile_file.devices
    requests = read_workload(workload, models, mistakes)
    counts = parse_workers(workers, devices, mistakes)
    limits = parse_memory(memory, counts, mistakes) if memory else {}
    mistakes.raise_if_any()
    assert profile_file is not None
    assert requests is not None
    first = dict(zip(reversed(requests.models), reversed(requests.lines), strict=True))
    for model, line in first.items():
        runs_on = profile_file.runs_on(model)
        if runs_on.isdisjoint(counts):
            mistakes.add(
                str(workload),
                line,
                "model",
                f"no worker of {OPTION} {workers} is able to run {model!r}; its profiles are for"
                f" {', '.join(sorted(runs_on))}",
            )
    mistakes.raise_if_any()
    catalog, core_profiles = profile_file.catalog(requests.classes_by_model(), counts)
    held = memory_of(profile_file, catalog, limits, loading, mistakes) if limits else None
    mistakes.raise_if_any()
    return Scenario(
        catalog,
        core_profiles,
        requests,
        number_workers(counts),
        {"profiles": profile_file.source, "workload": requests.source},
        held,
    )
