"""A scenario: everything that a simulation is given, read and checked together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gearshift.core.catalog import Catalog
from gearshift.core.profile import Profiles
from gearshift.simulate.mistakes import Mistakes
from gearshift.simulate.profile_file import read_profiles
from gearshift.simulate.table import SourceFile
from gearshift.simulate.worker_spec import OPTION, number_workers, parse_workers
from gearshift.simulate.workload_file import Workload, read_workload


@dataclass(frozen=True, slots=True)
class Scenario:
    """Models with their profiles, the requests for them, and the workers, by id and device."""

    catalog: Catalog
    profiles: Profiles
    workload: Workload
    workers: Mapping[int, str]
    sources: Mapping[str, SourceFile]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many workers there are of each device."""
        counts: dict[str, int] = {}
        for device in self.workers.values():
            counts[device] = counts.get(device, 0) + 1
        return counts


def load_scenario(profiles: Path, workload: Path, workers: str) -> Scenario:
    """Read both files and the workers' specification.

    Raises ConfigurationInvalid with every mistake in all three (the first 20, then a
    count), each with its file, line and column and with what would be right.
    """
    mistakes = Mistakes()
    profile_file = read_profiles(profiles, mistakes)
    models = devices = None
    if profile_file is not None:
        models, devices = profile_file.points.keys(), profile_file.devices
    requests = read_workload(workload, models, mistakes)
    counts = parse_workers(workers, devices, mistakes)
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
    return Scenario(
        catalog,
        core_profiles,
        requests,
        number_workers(counts),
        {"profiles": profile_file.source, "workload": requests.source},
    )
