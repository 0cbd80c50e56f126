"""The entry point: build the variants of the named families into a repository."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from gearshift.errors import GearshiftError

FAMILIES = ("fraud", "tumor", "garment")
"""Every model that has a recipe here; each is a module of this package with a `build`."""


class UnknownFamily(GearshiftError):
    """A model was named that no recipe here makes."""


def build(
    models: Sequence[str],
    repository: Path,
    cache: Path,
    report: Callable[[str], None],
    results: Path | None = None,
) -> None:
    """Train, measure and publish all variants of `models` (none named: all) into `repository`.

    Downloads and trained weights are kept in `cache`: a run that was cut off goes on from
    there. `report` is told each step, one line at a time. With `results`, latencies are
    measured at the end and `models.md` and `models.png` are written there.
    """
    unknown = sorted(set(models) - set(FAMILIES))
    if unknown:
        raise UnknownFamily(f"no recipe for {', '.join(unknown)}; there are {', '.join(FAMILIES)}")
    cache.mkdir(parents=True, exist_ok=True)
    for model in models or FAMILIES:
        started = time.monotonic()
        # Loaded only here: the training frameworks take seconds to import, and serving
        # installations do not have them.
        import_module(f"gearshift.compress.{model}").build(repository, cache, report)
        report(f"{model}: built in {time.monotonic() - started:.0f} s")
    if results is not None:
        import_module("gearshift.compress.report").write_report(repository, cache, results, report)
