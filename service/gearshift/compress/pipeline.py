"""The steps of a recipe in their order, each done once: what is in the store is not done again.

An ingredient (a step that is not published) is left in the store when all that is made from it
is there, too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module, metadata
from typing import Any

from gearshift.compress.job import Job, told
from gearshift.compress.made import Made, Report, Workshop
from gearshift.compress.recipe import Recipe, parents


def make(job: Job, only: Sequence[str] | None = None) -> dict[str, Made]:
    """Do all steps, or those that `only` needs; what an earlier run did is taken from the store."""
    asked = _with_parents(job.recipe, only)
    needed = _needed(job, asked, only or ())
    made: dict[str, Made] = {}
    for index, step in enumerate(job.recipe.steps, start=1):
        if step.name not in asked:
            continue
        key = job.keys[step.name]
        prefix = f"{job.recipe.model} [{index}/{len(job.recipe.steps)}] {step.name}: "

        def line(text: str, prefix: str = prefix) -> None:
            job.report(prefix + text)

        if step.name not in needed:
            line("done before")
            continue
        shop = _shop(job, made, line)
        with told(f"{job.path}: step {index} ({step.name!r})"):
            made[step.name] = _do(job, step, key, shop)
    return made


def _do(job: Job, step: Any, key: str, shop: Workshop) -> Made:
    # The frameworks take seconds to import, and reading a recipe does not need them.
    steps = import_module("gearshift.compress.steps")
    kept = job.store.load(step.name, key, steps.factory(step, shop))
    if kept is not None:
        shop.report("done before")
        return replace(kept, about=step.about or kept.about)
    started = time.monotonic()
    shop.report(f"{step.kind} ...")
    result: Made = steps.run(step, replace(shop, state=job.store.state(step.name, key)))
    tools = tuple(sorted({*result.tools, *step.tools}))
    result = replace(
        result,
        tools=tools,
        versions={name: metadata.version(name) for name in tools},
        about=step.about or result.about,
    )
    seconds = time.monotonic() - started
    job.store.save(step.name, key, result, seconds)
    shop.report(f"{len(result.artifact):,} bytes, {seconds:.1f} s")
    return result


def _shop(job: Job, made: Mapping[str, Made], report: Report) -> Workshop:
    return Workshop(
        data=job.data,
        output=job.recipe.output,
        metric=job.recipe.metric,
        seed=job.recipe.seed,
        folder=job.path.parent,
        cache=job.cache,
        report=report,
        made=made,
    )


def _needed(job: Job, asked: set[str], only: Sequence[str]) -> set[str]:
    """What of `asked` must be made or loaded: of the ingredients, what something still needs."""
    needed: set[str] = set()
    for step in reversed(job.recipe.steps):
        key = job.keys[step.name]
        kept = job.store.facts(step.name, key) is not None
        ingredient = not step.publish and step.kind != "edge" and step.name not in only
        if step.name in asked and not (ingredient and kept):
            needed.add(step.name)
        if step.name in needed:
            done = job.store.done(step.name, key)
            needed.update(_behind_layout(step) if done else parents(step))
    return needed


def _behind_layout(step: Any) -> Sequence[str]:
    """The steps whose networks say how that of `step` is laid out."""
    if step.kind == "prune":
        return (step.of,)
    return step.uses if step.kind == "call" and step.layout is not None else ()


def _with_parents(recipe: Recipe, only: Sequence[str] | None) -> set[str]:
    """The steps of `only`, or all, and those that they build on."""
    wanted = set(only) if only is not None else {step.name for step in recipe.steps}
    for step in reversed(recipe.steps):
        if step.name in wanted:
            wanted.update(parents(step))
    return wanted
