"""The profiles file: what each variant costs on each device, and how accurate it is."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gearshift.core.catalog import Catalog, Model, ServiceClass, Signature, Variant
from gearshift.core.profile import LatencyPoint, Profile, Profiles
from gearshift.simulate.mistakes import Mistakes
from gearshift.simulate.table import SourceFile, names, numbers, read_table

COLUMNS = ("model", "variant", "accuracy", "device", "batch", "p50_ms", "p99_ms")
OPTIONAL = ("memory_mb",)

LARGEST_BATCH = 65_536
"""Rows; a profile is tabulated up to its largest batch."""

DEFAULT_CLASS = "default"
"""The class of requests that name none: no budget and no floor of its own."""


@dataclass(slots=True)
class _Known:
    """What the lines so far have said about one variant, and where they said it first."""

    accuracy: float
    memory: float
    line: int
    points: dict[str, dict[int, tuple[int, LatencyPoint]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """The profiles of a file, by model, then variant, then device.

    `memory` (megabytes by model, then variant) holds those of which the file tells it.
    """

    source: SourceFile
    accuracies: Mapping[str, Mapping[str, float]]
    memory: Mapping[str, Mapping[str, float]]
    points: Mapping[str, Mapping[str, Mapping[str, tuple[LatencyPoint, ...]]]]

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device that some variant has a profile for, in order of the alphabet."""
        return tuple(
            sorted(
                {
                    device
                    for variants in self.points.values()
                    for devices in variants.values()
                    for device in devices
                }
            )
        )

    def runs_on(self, model: str) -> frozenset[str]:
        """The devices that can run a variant of `model`."""
        return frozenset(device for devices in self.points[model].values() for device in devices)

    def catalog(
        self, classes: Mapping[str, Mapping[str, float]], devices: Collection[str]
    ) -> tuple[Catalog, Profiles]:
        """The core's picture of what `devices` can run; `classes` are those of each
        model, each with its budget in seconds.

        A model's largest batch is the largest that the file has for any of its variants.
        Variants are numbered in the file's order. Every class is without a budget and a
        floor of its own: the workload file gives both for each request.
        """
        models = {}
        profiles = []
        for name, variants in self.points.items():
            if self.runs_on(name).isdisjoint(devices):
                continue
            largest = max(p.batch for ds in variants.values() for ps in ds.values() for p in ps)
            model = self._model(name, largest, classes.get(name, {}))
            models[name] = model
            profiles += [
                Profile(variant, device, points, largest)
                for variant in model.variants
                for device, points in variants[variant.name].items()
            ]
        return Catalog(1, models), Profiles(models, profiles)

    def _model(self, name: str, largest: int, classes: Mapping[str, float]) -> Model:
        variants = [
            Variant(
                name=variant,
                version=version,
                executor="simulated",
                accuracy=accuracy,
                source="declared",
                artifact="",
            )
            for version, (variant, accuracy) in enumerate(self.accuracies[name].items(), start=1)
        ]
        return Model(
            name=name,
            metric="accuracy",
            max_batch_size=largest,
            signature=Signature((), ()),
            classes={
                service_class: ServiceClass(
                    service_class, budget=classes.get(service_class, math.inf)
                )
                for service_class in sorted({DEFAULT_CLASS, *classes})
            },
            default_class=DEFAULT_CLASS,
            variants=tuple(sorted(variants, key=lambda variant: -variant.accuracy)),
        )


def read_profiles(path: Path, mistakes: Mistakes) -> ProfileFile | None:
    """Read a profiles file; None if nothing in it can be used, with the reason in `mistakes`.

    Accuracies may be on any scale from 0, higher being better, and must agree over all
    lines of a variant. Times are milliseconds for a whole batch. `memory_mb`, if there is such a
    column, is what a loaded variant takes; it may be empty, and only planning asks for it.
    """
    table = read_table(path, COLUMNS, OPTIONAL, mistakes)
    if table is None:
        return None
    file = table.file
    before = len(mistakes)
    models = names(table, "model", mistakes)
    variants = names(table, "variant", mistakes)
    devices = names(table, "device", mistakes)
    accuracies = numbers(table, "accuracy", mistakes, least=0).tolist()
    batches = numbers(table, "batch", mistakes, least=1, whole=True).tolist()
    p50s = numbers(table, "p50_ms", mistakes, above=0).tolist()
    p99s = numbers(table, "p99_ms", mistakes, above=0).tolist()
    sizes = [math.nan] * len(models)
    if "memory_mb" in table.columns:
        sizes = numbers(table, "memory_mb", mistakes, least=0, empty=math.inf).tolist()
    known: dict[str, dict[str, _Known]] = {}
    rows = zip(
        *(table.lines, models, variants, devices, accuracies, batches, p50s, p99s, sizes),
        strict=True,
    )
    for line, model, variant, device, accuracy, batch, p50, p99, size in rows:
        if batch > LARGEST_BATCH:
            mistakes.add(file, line, "batch", f"{batch:.0f} is above {LARGEST_BATCH}")
        if p99 < p50:
            mistakes.add(file, line, "p99_ms", f"{p99:g} is below the p50_ms of {p50:g}")
        if not (model and variant and device) or any(
            math.isnan(value) for value in (accuracy, batch, p50, p99)
        ):
            continue
        entry = known.setdefault(model, {}).setdefault(variant, _Known(accuracy, math.nan, line))
        if math.isfinite(size):
            # Said on several lines, it is the most that counts.
            entry.memory = size if math.isnan(entry.memory) else max(entry.memory, size)
        if entry.accuracy != accuracy:
            mistakes.add(
                file,
                line,
                "accuracy",
                f"{accuracy:g} contradicts line {entry.line}, which gives {entry.accuracy:g} for"
                f" variant {variant!r} of model {model!r}; a variant has one accuracy",
            )
        earlier = entry.points.setdefault(device, {}).setdefault(
            int(batch), (line, LatencyPoint(int(batch), p50 / 1e3, p99 / 1e3))
        )
        if earlier[0] != line:
            mistakes.add(
                file,
                line,
                "batch",
                f"{batch:.0f} of variant {variant!r} of model {model!r} on {device!r} was given"
                f" in line {earlier[0]} already; keep one of the two",
            )
    if len(mistakes) > before and not known:
        return None
    return ProfileFile(
        source=table.source,
        accuracies={m: {v: k.accuracy for v, k in vs.items()} for m, vs in known.items()},
        memory={
            m: {v: k.memory for v, k in vs.items() if not math.isnan(k.memory)}
            for m, vs in known.items()
        },
        points={
            m: {
                v: {d: tuple(point for _, point in ps.values()) for d, ps in k.points.items()}
                for v, k in vs.items()
            }
            for m, vs in known.items()
        },
    )
