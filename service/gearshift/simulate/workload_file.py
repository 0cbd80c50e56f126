"""The workload file: which requests arrive when, and what each of them asks for."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gearshift.core.catalog import Catalog
from gearshift.core.request import Ticket
from gearshift.simulate.mistakes import Mistakes
from gearshift.simulate.profile_file import DEFAULT_CLASS
from gearshift.simulate.table import Numbers, SourceFile, names, numbers, read_table

COLUMNS = ("arrival_ms", "model", "budget_ms", "min_accuracy")
OPTIONAL = ("service_class",)


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests of one row each in order of arrival; times in seconds, `floors` -inf for none.

    `lines` says where each stands in its file.
    """

    source: SourceFile
    lines: Sequence[int]
    arrivals: Numbers
    models: Sequence[str]
    budgets: Numbers
    floors: Numbers
    classes: Sequence[str]

    def __len__(self) -> int:
        return len(self.models)

    def classes_by_model(self) -> Mapping[str, Mapping[str, float]]:
        """By model, the service classes that requests for it name, each with the smallest
        budget (seconds) that they ask for: what a model.toml would declare."""
        found: dict[str, dict[str, float]] = {}
        for model, service_class, budget in zip(
            self.models, self.classes, self.budgets.tolist(), strict=True
        ):
            classes = found.setdefault(model, {})
            classes[service_class] = min(budget, classes.get(service_class, math.inf))
        return found

    def tickets(self, catalog: Catalog, speed_up: float) -> list[Ticket]:
        """One ticket a request, numbered from 0 in order of arrival.

        Arrivals are divided by `speed_up`, budgets are kept: the same demand arrives in
        less time, and every single request is as urgent as before.
        """
        arrivals = self.arrivals / speed_up
        deadlines = arrivals + self.budgets
        classes = {
            (name, service_class.name): service_class
            for name, model in catalog.models.items()
            for service_class in model.classes.values()
        }
        rows = zip(
            self.models,
            self.classes,
            arrivals.tolist(),
            deadlines.tolist(),
            self.floors.tolist(),
            strict=True,
        )
        return [
            Ticket(
                id=number,
                model=model,
                service_class=service_class,
                arrival=arrival,
                deadline=deadline,
                floor=floor,
                late=classes[model, service_class].late,
                weight=classes[model, service_class].weight,
                generation=catalog.models[model].generation,
            )
            for number, (model, service_class, arrival, deadline, floor) in enumerate(rows)
        ]


def read_workload(
    path: Path, known_models: Collection[str] | None, mistakes: Mistakes
) -> Workload | None:
    """Read a workload file; None if nothing in it can be used, with the reason in `mistakes`.

    `known_models` are those with a profile, None if the profiles could not be read. An
    empty floor is none; an empty or absent service class is `default`.
    """
    table = read_table(path, COLUMNS, OPTIONAL, mistakes)
    if table is None:
        return None
    file = table.file
    arrivals = numbers(table, "arrival_ms", mistakes, least=0)
    models = names(table, "model", mistakes)
    budgets = numbers(table, "budget_ms", mistakes, above=0)
    floors = numbers(table, "min_accuracy", mistakes, least=0, empty=-math.inf)
    if "service_class" in table.columns:
        classes = names(table, "service_class", mistakes, empty=DEFAULT_CLASS)
    else:
        classes = [DEFAULT_CLASS] * len(models)
    for index in (np.flatnonzero(np.diff(arrivals) < 0) + 1).tolist():
        mistakes.add(
            file,
            table.lines[index],
            "arrival_ms",
            f"{arrivals[index]:g} is before the {arrivals[index - 1]:g} of the row above;"
            f" sort the rows by arrival_ms",
        )
    unknown = set(models) - set(known_models) - {""} if known_models is not None else set()
    if unknown and known_models is not None:
        listed = ", ".join(sorted(known_models)) or "none"
        for line, model in zip(table.lines, models, strict=True):
            if model in unknown:
                mistakes.add(
                    file, line, "model", f"{model!r} has no profile; the profiles have: {listed}"
                )
    return Workload(
        table.source, table.lines, arrivals / 1e3, models, budgets / 1e3, floors, classes
    )
