"""A recipe that is about to be carried out: read, its rows loaded, its steps recognized."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gearshift.compress import metrics
from gearshift.compress.dataset import DataSets, checked, read_parts
from gearshift.compress.functions import resolve
from gearshift.compress.made import Report
from gearshift.compress.recipe import Recipe, RecipeError
from gearshift.compress.recipe_file import read
from gearshift.compress.store import Store, keys
from gearshift.errors import GearshiftError


class StepFailed(GearshiftError):
    """A step of a recipe ended in an error; what was there before is untouched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A recipe that has been read, with its rows loaded and its steps recognized."""

    path: Path
    recipe: Recipe
    data: DataSets
    learned: str
    """The identity of the rows that are learned from or chosen by: hashed once."""
    keys: Mapping[str, str]
    cache: Path
    report: Report
    kept: str = ""
    """The subfolder of the store; folds have one each."""

    @property
    def store(self) -> Store:
        """Where the steps' results are kept."""
        return Store(self.cache / self.recipe.model / self.kept)

    def with_recipe(self, recipe: Recipe) -> Job:
        """The same rows for another recipe of the same file: what a search tries."""
        found = keys(recipe, self.path.parent, self.learned)
        return replace(self, recipe=recipe, keys=found)

    def fold(self, number: int, folds: int) -> Job:
        """The recipe on the rows of fold `number` of `folds`; fold 0 is what is published."""
        if number == 0:
            return self
        options = {**self.recipe.data.options, "fold": number, "folds": folds}
        told_data = self.recipe.data.model_copy(update={"options": options})
        recipe = self.recipe.model_copy(update={"data": told_data})
        with told(f"{self.path}: data, fold {number}"):
            data = checked(_data(recipe, self.path.parent, self.cache, self.report))
        return replace(self.with_data(data, f"fold-{number}"), report=self.report)

    def with_data(self, data: DataSets, kept: str) -> Job:
        """The same recipe on other rows, quietly: a fold."""
        learned = data.learned_sha256()
        found = keys(self.recipe, self.path.parent, learned)
        return replace(
            self, data=data, learned=learned, keys=found, kept=kept, report=lambda line: None
        )


def open_job(path: Path, cache: Path, report: Report) -> Job:
    """Read the recipe at `path` and everything that it names; every error says where it is."""
    recipe, data = open_data(path, cache, report)
    for name in (recipe.metric, *recipe.further):
        if name not in metrics.known():
            raise RecipeError(
                f"{path}: metric: no metric is named {name!r}; known are "
                f"{', '.join(metrics.known())}"
            )
    report(
        f"{recipe.model}: {len(data.training):,} rows to learn from, "
        f"{len(data.calibration):,} to calibrate and choose, "
        f"{len(data.evaluation):,} to measure on"
    )
    with told(f"{path}"):
        learned = data.learned_sha256()
        found = keys(recipe, path.parent, learned)
    return Job(
        path=path,
        recipe=recipe,
        data=data,
        learned=learned,
        keys=found,
        cache=cache,
        report=report,
    )


def open_data(path: Path, cache: Path, report: Report) -> tuple[Recipe, DataSets]:
    """The recipe at `path` with its rows alone: what its steps need is not looked for."""
    recipe = read(path)
    with told(f"{path}: data"):
        return recipe, checked(_data(recipe, path.parent, cache, report))


def _data(recipe: Recipe, folder: Path, cache: Path, report: Report) -> DataSets:
    data = recipe.data
    if data.adapter is not None:
        found = resolve(data.adapter, folder)(cache, report, **data.options)
        if not isinstance(found, DataSets):
            raise GearshiftError(
                f"{data.adapter} gave {type(found).__name__}; expected "
                "gearshift.compress.dataset.DataSets"
            )
        return found
    assert data.training is not None
    assert data.calibration is not None
    assert data.evaluation is not None
    return read_parts(
        folder / data.training,
        folder / data.calibration,
        folder / data.evaluation,
        name=data.name or recipe.model,
        source=data.source or "files beside the recipe",
        licence=data.licence,
    )


@contextmanager
def told(where: str) -> Iterator[None]:
    """Whatever goes wrong inside, as one error that begins with `where`."""
    try:
        yield
    except StepFailed:
        raise
    except GearshiftError as error:
        raise StepFailed(f"{where}: {error}") from error
    except OSError as error:
        file = f" ({error.filename})" if error.filename else ""
        raise StepFailed(f"{where}: {error.strerror or error}{file}") from error
    except MemoryError as error:
        raise StepFailed(f"{where}: out of memory; fewer rows or a smaller batch help") from error
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise StepFailed(
            f"{where}: {type(error).__name__}: {reason[0] if reason else 'no message'}"
        ) from error
