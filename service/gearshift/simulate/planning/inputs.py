"""Everything that a plan is made from, read and checked together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gearshift.core.catalog import Catalog
from gearshift.core.profile import Profiles
from gearshift.simulate.mistakes import Mistakes
from gearshift.simulate.planning.kinds import Kind, read_kinds
from gearshift.simulate.planning.pod import Placing, Pod, VariantName
from gearshift.simulate.planning.traffic import Recorded, Traffic
from gearshift.simulate.profile_file import ProfileFile, read_profiles
from gearshift.simulate.table import SourceFile
from gearshift.simulate.worker_spec import number_workers
from gearshift.simulate.workload_file import Workload, read_workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Pods by the name of their kind, the requests for them, the models that are asked for, and
    where it all comes from; `notes` are what should be known about that."""

    pods: Mapping[str, Pod]
    traffic: Traffic
    models: Sequence[str]
    sources: Mapping[str, SourceFile]
    notes: tuple[str, ...] = ()


def from_files(
    profiles: Path, workload: Path, kinds: Path, placing: Placing, server: float, load: float
) -> Inputs:
    """Profiles as `gearshift simulate` reads them, on pods of the kinds in a file.

    `server` is what a server takes without models, in megabytes; `load` multiplies the requests.
    Raises ConfigurationInvalid with every mistake in the three files.
    """
    mistakes = Mistakes()
    profile_file = read_profiles(profiles, mistakes)
    models = None if profile_file is None else profile_file.points.keys()
    requests = read_workload(workload, models, mistakes)
    found = read_kinds(kinds, mistakes)
    if profile_file is not None:
        check_devices(kinds, found, profile_file.devices, mistakes)
    for kind in found:
        if kind.hardware:
            mistakes.add(
                str(kinds),
                None,
                "hardware",
                f"{kind.hardware!r} names profiles in a state dir; with --profiles give the kind"
                f" a device of its own in that file",
            )
    mistakes.raise_if_any()
    assert profile_file is not None
    assert requests is not None
    asked = tuple(dict.fromkeys(requests.models))
    pods = {kind.name: _pod(kind, profile_file, requests, placing, server) for kind in found}
    return Inputs(
        pods=pods,
        traffic=Recorded(requests, load),
        models=asked,
        sources={"profiles": profile_file.source, "workload": requests.source},
        notes=_notes(profile_file, asked),
    )


def check_devices(
    file: Path, kinds: Sequence[Kind], known: Sequence[str], mistakes: Mistakes
) -> None:
    """A kind whose device nobody has measured is a mistake."""
    for kind in kinds:
        for device in kind.devices:
            if device not in known:
                mistakes.add(
                    str(file),
                    None,
                    "device",
                    f"no profile is for the device {device!r} of kind {kind.name!r}; there are"
                    f" profiles for: {', '.join(known) or 'none'}",
                )


def make_pod(
    kind: Kind,
    catalog: Catalog,
    profiles: Profiles,
    memory: Mapping[VariantName, float],
    placing: Placing,
    server: float,
) -> Pod:
    """A pod of that kind; of `profiles` those on its devices count."""
    mine = Profiles(
        catalog.models,
        [
            profile
            for name in catalog.models
            for device in kind.devices
            for profile in profiles.on(name, device)
        ],
    )
    workers = number_workers(dict.fromkeys(kind.devices, kind.workers))
    placed, with_express = placing(catalog, mine, workers)
    return Pod(kind, catalog, placed, with_express, memory, server)


def as_declared(workload: Workload, catalog: Catalog, mistakes: Mistakes) -> Workload:
    """The workload with each request as the server takes it: no class is the model's default,
    and a class's budget and floor count beside the request's own."""
    budgets, floors = workload.budgets.copy(), workload.floors.copy()
    classes = list(workload.classes)
    for index, (name, asked) in enumerate(zip(workload.models, classes, strict=True)):
        model = catalog.models[name]
        known = model.classes.get(model.default_class if asked == "default" else asked)
        if known is None:
            mistakes.add(
                workload.source.name,
                workload.lines[index],
                "service_class",
                f"model {name!r} has no class {asked!r}; it has {', '.join(sorted(model.classes))}",
            )
            continue
        classes[index] = known.name
        budgets[index] = min(budgets[index], known.budget)
        floors[index] = max(floors[index], known.floor)
    return replace(workload, budgets=np.array(budgets), floors=np.array(floors), classes=classes)


def _pod(kind: Kind, file: ProfileFile, requests: Workload, placing: Placing, server: float) -> Pod:
    catalog, profiles = file.catalog(requests.classes_by_model(), file.devices)
    asked = set(requests.models)
    catalog = Catalog(
        catalog.generation, {n: model for n, model in catalog.models.items() if n in asked}
    )
    memory = {
        (model, variant): size
        for model, variants in file.memory.items()
        for variant, size in variants.items()
    }
    return make_pod(kind, catalog, profiles, memory, placing, server)


def _notes(file: ProfileFile, asked: Sequence[str]) -> tuple[str, ...]:
    unknown = [
        f"{model}/{variant}"
        for model in asked
        for variant in file.accuracies[model]
        if variant not in file.memory[model]
    ]
    if not unknown:
        return ()
    return (
        f"{file.source.name} does not say what memory {len(unknown)} of the variants take"
        " (column memory_mb): they count as nothing",
    )
