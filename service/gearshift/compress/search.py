"""`--search`: which widths, depths, sparsities and precisions are worth shipping.

A trial is the recipe with other settings. Trials share every step that they do not change, choose
by the calibration part, and only what no other variant beats is measured on the evaluation part
and published.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gearshift.compress import metrics
from gearshift.compress.build import data_source, publish_all
from gearshift.compress.evaluate import predict
from gearshift.compress.intent import withdraw
from gearshift.compress.job import Job, open_job, told
from gearshift.compress.latency import medians
from gearshift.compress.machine import machine
from gearshift.compress.made import Made, Report
from gearshift.compress.measuring import Measured, measure
from gearshift.compress.page import duration, table
from gearshift.compress.picture import Dot, draw
from gearshift.compress.pipeline import make
from gearshift.compress.publish import CARD
from gearshift.compress.recipe import Goal, Recipe, RecipeError, parents
from gearshift.compress.recipe_file import parse

Settings = tuple[tuple[str, Any], ...]
"""The settings of a trial: (`step.key`, value), in the order of the recipe's axes."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One variant of one trial, measured on the calibration part."""

    name: str
    step: str
    job: Job
    made: Made
    accuracy: float
    seconds: float = 0.0
    """Median latency of one row."""

    @property
    def size(self) -> int:
        """Bytes of the artifact."""
        return len(self.made.artifact)


def search(
    path: Path, repository: Path, cache: Path, report: Report, results: Path | None = None
) -> None:
    """Try the settings of the recipe's `[search]` and publish the frontier.

    The same seed tries the same settings. With `results`, `<model>-search.md` and a picture of
    all that was tried are written there.
    """
    job = open_job(path, cache, report)
    goal = job.recipe.search
    if goal is None:
        raise RecipeError(f"{path}: --search needs a [search] table with the settings to try")
    if not len(job.data.calibration):
        raise RecipeError(f"{path}: --search chooses by the calibration part, which has no rows")
    found = _candidates(job, goal)
    report(f"{job.recipe.model}: measuring the latency of {len(found)} variants")
    timed = _timed(found, job)
    allowed = [c for c in timed if _within(c, goal)]
    if not allowed:
        raise RecipeError(
            f"{path}: none of {len(timed)} variants keeps the goal of {_goal(goal)}; the smallest "
            f"has {min(c.size for c in timed):,} bytes, the fastest takes "
            f"{duration(min(c.seconds for c in timed))}"
        )
    kept = frontier(allowed)
    command = f"gearshift compress {path.as_posix()} --search"
    measured = {c.name: measure(c.job, c.step, c.made) for c in kept}
    folder = repository / job.recipe.model
    with told(f"{path}: publishing into {folder}"):
        keys = {c.name: c.job.keys[c.step] for c in kept}
        publish_all(job, repository, measured, keys, command, data_source(job))
        _withdraw_others(folder, set(measured), command)
    if results is not None:
        with told(f"{path}: report in {results}"):
            _report(job, goal, timed, {c.name for c in kept}, measured, command, results)


def dominates(one: Candidate, other: Candidate) -> bool:
    """Whether `one` is at least as good in accuracy, latency and size, and better in one."""
    gains = (one.accuracy - other.accuracy, other.seconds - one.seconds, other.size - one.size)
    return min(gains) >= 0 and max(gains) > 0


def frontier(candidates: Sequence[Candidate]) -> list[Candidate]:
    """What no other candidate dominates, most accurate first."""
    kept = [c for c in candidates if not any(dominates(other, c) for other in candidates)]
    return sorted(kept, key=lambda c: (-c.accuracy, c.seconds))


def trials(recipe: Recipe, goal: Goal) -> list[Settings]:
    """The whole grid of settings, or as much of it, drawn by the seed, as the goal says."""
    axes = [[(axis.setting, value) for value in axis.values] for axis in goal.axes]
    grid = list(itertools.product(*axes))
    if len(grid) <= goal.trials:
        return grid
    return random.Random(recipe.seed).sample(grid, goal.trials)


def applied(recipe: Recipe, settings: Settings, path: Path) -> Recipe:
    """The recipe with these settings; RecipeError when one names no step or key of it."""
    tree = recipe.model_dump(mode="json", exclude_unset=True)
    for setting, value in settings:
        name, *keys = setting.split(".")
        step = next((s for s in tree["steps"] if s["name"] == name), None)
        if step is None or not keys:
            known = ", ".join(s["name"] for s in tree["steps"])
            raise RecipeError(
                f"{path}: search: {setting!r} names no setting of a step; expected `step.key`, "
                f"with a step of {known}"
            )
        place = step
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
    return parse(tree, path)


def _candidates(job: Job, goal: Goal) -> list[Candidate]:
    """Every distinct variant of every trial: one that several trials share is there once."""
    found: dict[str, Candidate] = {}
    planned = trials(job.recipe, goal)
    for number, settings in enumerate(planned, start=1):
        words = ", ".join(f"{setting} = {value}" for setting, value in settings)
        job.report(f"{job.recipe.model}: trial {number}/{len(planned)}: {words}")
        trial = job.with_recipe(applied(job.recipe, settings, job.path))
        wanted = [step.name for step in trial.recipe.steps if step.publish]
        made = make(trial, only=wanted)
        for name in wanted:
            if trial.keys[name] in found:
                continue
            part = job.data.calibration
            with told(f"{job.path}: step {name!r}, trial {number}"):
                outputs = predict(made[name].artifact, part.inputs)
                accuracy = metrics.score(job.recipe.metric, part.labels, outputs)
            label = _label(trial.recipe, name, settings)
            # The networks are not needed any more, and together they may not fit in memory.
            light = replace(made[name], network=None, factory=None)
            found[trial.keys[name]] = Candidate(label, name, trial, light, accuracy)
    return list(found.values())


def _label(recipe: Recipe, name: str, settings: Settings) -> str:
    """The step's name and the values of the settings that decide it."""
    behind = {name}
    for step in reversed(recipe.steps):
        if step.name in behind:
            behind.update(parents(step))
    values = [str(value) for setting, value in settings if setting.split(".")[0] in behind]
    return "-".join([name, *(re.sub(r"[^a-z0-9.]+", "_", v.lower()).strip("_") for v in values)])


def _timed(candidates: Sequence[Candidate], job: Job) -> list[Candidate]:
    artifacts: dict[str, Path | bytes] = {c.name: c.made.artifact for c in candidates}
    taken = medians(artifacts, job.data.calibration.inputs, 1)
    return [replace(c, seconds=taken[c.name]) for c in candidates]


def _within(candidate: Candidate, goal: Goal) -> bool:
    small = goal.most_bytes is None or candidate.size <= goal.most_bytes
    return small and (goal.most_ms is None or candidate.seconds * 1e3 <= goal.most_ms)


def _goal(goal: Goal) -> str:
    words = []
    if goal.most_bytes is not None:
        words.append(f"at most {goal.most_bytes:,} bytes")
    if goal.most_ms is not None:
        words.append(f"at most {goal.most_ms:g} ms")
    return " and ".join(words) or "anything"


def _withdraw_others(folder: Path, kept: set[str], command: str) -> None:
    """Remove what an earlier search published and this one does not keep."""
    gone = []
    for card in sorted(folder.glob(f"*/{CARD}")):
        made_by = json.loads(card.read_text(encoding="utf-8"))["recipe"]["command"]
        if made_by == command and card.parent.name not in kept:
            gone.append(card.parent.name)
    if gone:
        withdraw(folder, gone)
        for name in gone:
            shutil.rmtree(folder / name)


def _report(
    job: Job,
    goal: Goal,
    tried: Sequence[Candidate],
    kept: set[str],
    measured: Mapping[str, Measured],
    command: str,
    results: Path,
) -> None:
    model, metric = job.recipe.model, metrics.shown(job.recipe.metric)
    body = []
    for c in sorted(tried, key=lambda c: (-c.accuracy, c.seconds)):
        better = [other.name for other in tried if dominates(other, c)]
        fate = (
            "kept" if c.name in kept else (f"behind `{better[0]}`" if better else "over the goal")
        )
        found = measured.get(c.name)
        value = "" if found is None else f"{found.accuracy.value:.4f}"
        interval = "" if found is None else f"{found.accuracy.low:.4f} to {found.accuracy.high:.4f}"
        body.append(
            (
                *(f"`{c.name}`", f"{c.accuracy:.4f}", value, interval),
                *(f"{c.size:,}", f"{c.made.parameters:,}", duration(c.seconds), fate),
            )
        )
    heads = (
        *("variant", f"{metric}, calibration", f"{metric}, evaluation", "95 % interval"),
        *("bytes", "parameters", "p50, batch 1", "fate"),
    )
    axes = "; ".join(f"`{axis.setting}` of {axis.values}" for axis in goal.axes)
    text = (
        f"# What a search for `{model}` found\n\n"
        f"Written by `{command} --results {results.as_posix()}`. Machine: {machine()}. Tried: "
        f"{axes}; goal: {_goal(goal)}; seed {job.recipe.seed}. A variant is kept when no other is "
        "at least as accurate (on the calibration part), as fast and as small; only those were "
        "measured on the evaluation part. Latency: median of ONNX Runtime alone, one thread, the "
        f"variants taking turns.\n\n![all that was tried]({model}-search.png)\n\n"
        + table(heads, body, text=(0, 7))
    )
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{model}-search.md").write_text(text, encoding="utf-8")
    dots = [Dot(c.name, c.seconds * 1e3, c.accuracy, c.size, kept=c.name in kept) for c in tried]
    draw(
        dots,
        results / f"{model}-search.png",
        title=f"{job.recipe.title or model}: what was tried (grey) and what is kept",
        across="p50 at batch 1, one thread, ms",
        up=f"{metric}, calibration part",
    )
