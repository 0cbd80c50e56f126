"""`gearshift compress`: a recipe becomes published variants, and a report on them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gearshift.compress import edge as phones
from gearshift.compress import metrics
from gearshift.compress.dataset import Array, Part
from gearshift.compress.functions import resolve
from gearshift.compress.intent import FILE, declare
from gearshift.compress.job import Job, open_job, told
from gearshift.compress.latency import medians
from gearshift.compress.made import Made, Report
from gearshift.compress.measuring import Measured, measure
from gearshift.compress.page import BATCHES, EdgeRow, Pages, Row, page
from gearshift.compress.picture import Dot, draw
from gearshift.compress.pipeline import make
from gearshift.compress.publish import (
    MAX_SAMPLES,
    Draft,
    card_of,
    publish,
    publish_samples,
    recover,
)
from gearshift.compress.recipe import RecipeError
from gearshift.core.card import Card, DataSource

SAMPLE_SEED = 28


def build(
    path: Path, repository: Path, cache: Path, report: Report, results: Path | None = None
) -> None:
    """Make, measure and publish the variants of the recipe at `path` into `repository`.

    What an earlier run made is taken from `cache`. With `results`, `<model>.md` and
    `<model>.png` are written there. Variants of more bytes than the recipe ships are made,
    measured and reported, but not published. Any error leaves the published variants as they were,
    except that those published before it are whole and new.
    """
    job = open_job(path, cache, report)
    made = make(job)
    wanted = [step.name for step in job.recipe.steps if step.publish]
    measured = {name: measure(job, name, made[name]) for name in wanted}
    edges = _edges(job, made)
    folder = repository / job.recipe.model
    most_bytes = job.recipe.serve.most_bytes
    shipped = {
        name: found
        for name, found in measured.items()
        if most_bytes is None or len(found.made.artifact) <= most_bytes
    }
    with told(f"{path}: publishing into {folder}"):
        keys = {name: job.keys[name] for name in wanted}
        source = data_source(job)
        published = publish_all(job, repository, shipped, keys, command(job), source)
        unshipped = [
            card_of(_draft(job, name, found, keys[name], command(job), source))
            for name, found in measured.items()
            if name not in shipped
        ]
        cards = [*published, *unshipped]
    if results is not None:
        with told(f"{path}: report in {results}"):
            _report(job, folder, cards, measured, edges, results)


def prepare(path: Path, cache: Path, report: Report, steps: Sequence[str]) -> None:
    """Do `steps` of the recipe at `path` and those that they build on; publish nothing."""
    job = open_job(path, cache, report)
    known = [step.name for step in job.recipe.steps]
    unknown = [name for name in steps if name not in known]
    if unknown:
        raise RecipeError(
            f"{path}: no step is named {', '.join(map(repr, unknown))}; there are "
            f"{', '.join(known)}"
        )
    make(job, only=steps)


def publish_all(
    job: Job,
    repository: Path,
    measured: Mapping[str, Measured],
    keys: Mapping[str, str],
    made_by: str,
    source: DataSource,
) -> list[Card]:
    """Publish every variant with its card, the samples, and what `model.toml` does not name yet.

    `keys` holds what identifies each variant's settings and rows, `made_by` the command.
    """
    folder = repository / job.recipe.model
    recover(folder)
    cards = [
        _publish(job, repository, _draft(job, name, found, keys[name], made_by, source))
        for name, found in measured.items()
    ]
    _samples(job, repository, measured)
    best_first = sorted(cards, key=lambda card: -card.accuracy.value)
    for line in declare(folder, job.recipe, [card.variant for card in best_first]):
        if line.startswith("name"):
            job.report(f"{job.recipe.model}: {FILE}: new variant, {line}")
    return cards


def data_source(job: Job) -> DataSource:
    """The rows behind all variants of the recipe, as their cards name them."""
    data = job.data
    return DataSource(
        name=data.name,
        source=data.source,
        licence=data.licence,
        training_sha256=job.learned,
        evaluation_sha256=data.evaluation.sha256(),
    )


def _publish(job: Job, repository: Path, draft: Draft) -> Card:
    card = publish(repository, draft)
    value = card.accuracy
    job.report(
        f"{draft.model}: {draft.variant}: {metrics.shown(value.metric)} {value.value:.4f} "
        f"[{value.low:.4f}, {value.high:.4f}], {card.artifact_bytes:,} bytes"
    )
    return card


def _draft(
    job: Job, name: str, found: Measured, key: str, made_by: str, source: DataSource
) -> Draft:
    made = found.made
    return Draft(
        model=job.recipe.model,
        variant=name,
        artifact=made.artifact,
        parameters=made.parameters,
        description=made.about,
        accuracy=found.accuracy,
        further=found.further,
        data=source,
        tools=dict(made.versions),
        command=made_by,
        recipe_sha256=key,
    )


def command(job: Job) -> str:
    """What makes the variants again."""
    return f"gearshift compress {job.path.as_posix()}"


def _edges(job: Job, made: Mapping[str, Made]) -> list[EdgeRow]:
    rows = []
    for step in job.recipe.steps:
        if step.kind != "edge":
            continue
        artifact, part = made[step.name].artifact, job.data.evaluation
        with told(f"{job.path}: step {step.name!r}, evaluation"):
            found = phones.measure(artifact, step.runtime, part)
            accuracy = metrics.measure(job.recipe.metric, part.labels, found.outputs)
            place = job.cache / job.recipe.model / f"{step.name}{phones.SUFFIX[step.runtime]}"
            place.write_bytes(artifact)
        job.report(f"{job.recipe.model}: {step.name}: {place}, {len(artifact):,} bytes")
        rows.append(
            EdgeRow(step.name, step.runtime, len(artifact), accuracy, found.p50_ms, found.peak_mb)
        )
    return rows


def _samples(job: Job, repository: Path, measured: Mapping[str, Measured]) -> None:
    """Held-out rows to show and to check with, where the data may be passed on."""
    wanted, part = job.recipe.samples, job.data.evaluation
    if wanted == "none" or len(part.inputs) != 1:
        return
    if wanted == "random":
        chosen, weights = _drawn(len(part))
    else:
        outputs = np.stack([found.outputs for found in measured.values()])
        chosen, weights = resolve(wanted, job.path.parent)(part, outputs)
    rows: Part = part.rows(chosen)
    (inputs,) = rows.inputs.values()
    publish_samples(repository, job.recipe.model, inputs, rows.labels, weights)


def _drawn(n: int) -> tuple[Array, Any]:
    size = min(n, MAX_SAMPLES)
    rows = np.sort(np.random.default_rng(SAMPLE_SEED).choice(n, size, replace=False))
    return rows, np.full(size, n / size)


def _report(
    job: Job,
    folder: Path,
    cards: Sequence[Card],
    measured: Mapping[str, Measured],
    edges: Sequence[EdgeRow],
    results: Path,
) -> None:
    job.report(f"{job.recipe.model}: measuring latencies")
    rows = _rows(job, folder, cards, measured)
    kept = {step.name: job.store.facts(step.name, job.keys[step.name]) for step in job.recipe.steps}
    known = {name: facts for name, facts in kept.items() if facts is not None}
    model, results_command = job.recipe.model, f"{command(job)} --results {results.as_posix()}"
    results.mkdir(parents=True, exist_ok=True)
    text = page(
        Pages(
            recipe=job.recipe,
            command=results_command,
            rows=rows,
            edges=edges,
            figures={name: facts["figures"] for name, facts in known.items()},
            ends=_ends(job, rows, measured),
            seconds={name: facts["seconds"] for name, facts in known.items()},
            picture=f"{model}.png",
            data=f"{job.data.name} ({job.data.licence})",
        )
    )
    (results / f"{model}.md").write_text(text, encoding="utf-8")
    batch = job.recipe.drawn_batch
    dots = [
        Dot(
            row.name,
            row.latency[batch] * 1e3,
            row.card.accuracy.value,
            row.card.artifact_bytes,
            row.card.accuracy.low,
            row.card.accuracy.high,
        )
        for row in rows
    ]
    draw(
        dots,
        results / f"{model}.png",
        title=job.recipe.title or model,
        across=f"p50 at batch {batch}, one thread, ms",
        up=metrics.shown(job.recipe.metric),
    )


def _ends(job: Job, rows: Sequence[Row], measured: Mapping[str, Measured]) -> str:
    """Whether the ends of the frontier differ by more than chance, rows paired."""
    name, batch = job.recipe.metric, job.recipe.drawn_batch
    best = max(rows, key=lambda row: row.card.accuracy.value)
    fastest = min(rows, key=lambda row: row.latency[batch])
    if best is fastest or name not in metrics.METRICS:
        return ""
    value, low, high = metrics.paired_difference(
        name,
        job.data.evaluation.labels,
        measured[best.name].outputs,
        measured[fastest.name].outputs,
    )
    return (
        f"Between the ends, `{best.name}` over `{fastest.name}` on the evaluation rows: "
        f"{metrics.shown(name)} {value:+.4f} ({low:+.4f} to {high:+.4f}, paired bootstrap), "
        f"{best.latency[batch] / fastest.latency[batch]:.0f}x the time "
        f"at batch {batch}."
    )


def _rows(
    job: Job, folder: Path, cards: Sequence[Card], measured: Mapping[str, Measured]
) -> list[Row]:
    """The variants of the recipe, best first, with latencies measured now."""
    entries = tomllib.loads((folder / FILE).read_text(encoding="utf-8"))["variants"]
    versions = {entry["name"]: entry["version"] for entry in entries}
    artifacts: dict[str, Path | bytes] = {
        card.variant: measured[card.variant].made.artifact for card in cards
    }
    inputs = job.data.evaluation.inputs
    latency = {batch: medians(artifacts, inputs, batch) for batch in BATCHES}
    rows = [
        Row(
            versions.get(card.variant),
            card.variant,
            card,
            {batch: latency[batch][card.variant] for batch in BATCHES},
        )
        for card in cards
    ]
    return sorted(rows, key=lambda row: (-row.card.accuracy.value, row.latency[1]))
