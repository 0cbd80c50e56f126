"""The cascades of one model: every pair of variants tried, those that are declared written."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gearshift.compress import metrics
from gearshift.compress.cascade import Fit, Outputs, Pair, Step, curve, learn
from gearshift.compress.cascade_rows import HeldOut, answers, held_out
from gearshift.compress.latency import medians
from gearshift.compress.made import Report
from gearshift.core.card import CASCADE_SCHEMA, CascadeCard, Measurement, RelativeCost
from gearshift.core.catalog import Cascade, Model, Variant
from gearshift.engine.confidence import check_confidence, confidence, confidence_of
from gearshift.errors import GearshiftError

CASCADE_FILE = "cascade.json"
ASKED = 400
"""Times that it is measured how long it takes to see how sure answers are."""
MOST_MEASURED = 64
"""Rows of the larger batch whose latency is measured."""


class CascadeError(GearshiftError):
    """A cascade cannot be learned, or there is nothing to gain by it."""


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """Two variants as a cascade. `fit` is None if all rows would have to go on; `costs` by batch
    size is the mean cost of a row as a share of the second's, `seconds` that of the larger batch
    itself; `instead` is the variant that is at least as accurate and no dearer on its own, None
    if there is none."""

    first: Variant
    then: Variant
    pair: Pair
    fit: Fit | None
    costs: Mapping[int, float]
    seconds: float
    instead: Variant | None

    @property
    def pays(self) -> bool:
        """Is it cheaper than the second variant, and better than every other at its cost?"""
        return self.fit is not None and self.cost < 1.0 and self.instead is None

    @property
    def cost(self) -> float:
        """That of full batches."""
        return self.costs[max(self.costs)]


class Learning:
    """What is known of one model: held-out rows, every variant's answers and latency."""

    def __init__(
        self, model: Model, folder: Path, cache: Path, report: Report, variants: Sequence[str]
    ) -> None:
        """Run `variants`, or all if none is named; `folder` is the model's in the repository."""
        try:
            check_confidence(model.metric, model.signature)
        except ValueError as error:
            raise CascadeError(f"model {model.name!r}: {error}") from error
        self.model = model
        self.folder = folder
        self.rows: HeldOut = held_out(model, folder, cache, report)
        named = [model.by_name(name) for name in variants] or list(model.variants)
        self.outputs: dict[str, Outputs] = {}
        for variant in named:
            report(f"{model.name}: {variant.name} answers {len(self.rows):,} rows")
            self.outputs[variant.name] = answers(variant, self.rows, cache)
        report(f"{model.name}: measuring latencies")
        artifacts: dict[str, Path | bytes] = {v.name: Path(v.artifact) for v in named}
        self.latency = {
            batch: medians(artifacts, self.rows.inputs, batch)
            for batch in sorted({1, min(model.max_batch_size, MOST_MEASURED)})
        }
        self.asking = {
            batch: _asking(model, self.outputs[named[0].name], batch) for batch in self.latency
        }
        self.alone = {
            name: metrics.weighted_score(model.metric, self.rows.labels, found, self.rows.weights)
            for name, found in self.outputs.items()
        }

    def seconds(self, batch: int, first: str, then: str, share: float) -> float:
        """The mean time of a batch: the first variant, the question how sure it is, and the second
        for the share that goes on, as if that ran in batches of the same size."""
        taken = self.latency[batch]
        return taken[first] + self.asking[batch] + share * taken[then]

    def candidates(self) -> list[tuple[str, str]]:
        """The pairs that could pay: the first is less accurate and quicker than the second."""
        by_batch = self.latency[max(self.latency)]
        return [
            (first.name, then.name)
            for then in self.model.variants
            for first in self.model.variants
            if first.accuracy < then.accuracy
            and by_batch[first.name] < by_batch[then.name]
            and self.alone[first.name] < self.alone[then.name]
        ]

    def try_pair(self, first: str, then: str, within: float) -> Tried:
        """The cascade of two variants that stays within `within` of the second."""
        model, rows = self.model, self.rows
        output = {model.signature.outputs[0].name: self.outputs[first]}
        pair = Pair(
            model.metric,
            rows.labels,
            rows.weights,
            self.outputs[first],
            self.outputs[then],
            confidence(output, model),
        )
        fit = learn(pair, within)
        share = 1.0 if fit is None else fit.escalated
        costs = {
            batch: self.seconds(batch, first, then, share) / taken[then]
            for batch, taken in self.latency.items()
        }
        return Tried(
            model.by_name(first),
            model.by_name(then),
            pair,
            fit,
            costs,
            costs[max(costs)] * self.latency[max(costs)][then],
            None if fit is None else self._instead(fit, costs, then),
        )

    def _instead(self, fit: Fit, costs: Mapping[int, float], then: str) -> Variant | None:
        batch = max(costs)
        taken = self.latency[batch]
        for variant in self.model.variants:
            name = variant.name
            if (
                name in self.alone
                and name != then
                and self.alone[name] >= fit.accuracy
                and taken[name] <= costs[batch] * taken[then]
            ):
                return variant
        return None

    def write(self, cascade: Cascade, tried: Tried, command: str) -> CascadeCard:
        """Write what was learned beside the variants' folders; CascadeError if it is no use."""
        if tried.fit is None or not tried.pays:
            raise CascadeError(
                f"model {self.model.name!r}: cascade {cascade.name!r} does not pay:"
                f" {why_not(tried)}; take it out of model.toml, or allow a larger --within"
            )
        card = self._card(cascade, tried, tried.fit, command)
        path = self.folder / cascade.name / CASCADE_FILE
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f".{path.name}")
        partial.write_text(card.to_json(), encoding="utf-8")
        os.replace(partial, path)
        return card

    def _card(self, cascade: Cascade, tried: Tried, fit: Fit, command: str) -> CascadeCard:
        model, rows = self.model, self.rows
        difference = difference_of(tried, fit)
        return CascadeCard(
            schema=CASCADE_SCHEMA,
            model=model.name,
            cascade=cascade.name,
            first=tried.first.name,
            then=tried.then.name,
            first_sha256=tried.first.artifact_sha256,
            then_sha256=tried.then.artifact_sha256,
            threshold=fit.threshold,
            escalated=fit.escalated,
            accuracy=self._accuracy(tried.then, fit, difference),
            difference=difference,
            costs=tuple(RelativeCost(batch=b, share=cost) for b, cost in tried.costs.items()),
            data=rows.about,
            rows_sha256=rows.sha256,
            command=command,
        )

    def _accuracy(self, then: Variant, fit: Fit, difference: Measurement) -> Measurement:
        """On the rows of the second variant's card as measured; on other rows they say only how
        far the two are apart, and the card where that is."""
        rows, card = self.rows, then.card
        if card is not None and (card.data.evaluation_sha256, card.accuracy.n) == (
            rows.sha256,
            len(rows),
        ):
            found = metrics.measure(self.model.metric, rows.labels, fit.outputs)
            return replace(found, method=f"{CROSS_FITTED}; {found.method}")
        value = then.accuracy + difference.value
        low = high = 0.0
        if card is not None:
            low = card.accuracy.value - card.accuracy.low
            high = card.accuracy.high - card.accuracy.value
        return Measurement(
            metric=self.model.metric,
            value=value,
            n=len(rows),
            low=value - math.hypot(low, difference.value - difference.low),
            high=max(value, min(1.0, value + math.hypot(high, difference.high - difference.value))),
            method=f"the accuracy of {then.name!r} plus the difference: {difference.method}",
        )


def _asking(model: Model, outputs: Outputs, batch: int) -> float:
    """The median time in seconds that it takes to see how sure the answers of a batch are."""
    ask, taken = confidence_of(model), []
    answers_ = {model.signature.outputs[0].name: np.resize(outputs, (batch, *outputs.shape[1:]))}
    for _ in range(ASKED):
        started = time.perf_counter()
        ask(answers_)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


CROSS_FITTED = "10-fold cross-fitting of the threshold"


def difference_of(tried: Tried, fit: Fit) -> Measurement:
    """The cascade's metric minus that of the second variant, rows paired."""
    pair = tried.pair
    value, low, high = metrics.paired_difference(
        pair.metric, pair.labels, fit.outputs, pair.then, weights=pair.weights
    )
    return Measurement(
        metric=pair.metric,
        value=value,
        n=len(pair.labels),
        low=min(low, value),
        high=max(high, value),
        method=f"{CROSS_FITTED}; paired bootstrap over rows, {metrics.BOOTSTRAP_ROUNDS} rounds",
    )


def verdict(tried: Tried, others: Sequence[Tried]) -> str:
    """Does it pay, and if not, why not?"""
    if not tried.pays:
        return f"no: {why_not(tried)}"
    other = better(tried, others)
    return "yes" if other is None else f"yes, less than {other.first.name}, {other.then.name}"


def why_not(tried: Tried) -> str:
    """Why the cascade is no use, in a few words."""
    if tried.fit is None:
        return f"every row would have to go on to {tried.then.name!r}"
    if tried.cost >= 1.0:
        return f"it costs {tried.cost:.2f} times what {tried.then.name!r} costs alone"
    assert tried.instead is not None
    return f"{tried.instead.name!r} alone is as accurate and no dearer"


def better(tried: Tried, others: Sequence[Tried]) -> Tried | None:
    """Another pair that reaches at least as much by the same time or less, all pairs of the same
    model: the quickest of them."""
    if tried.fit is None:
        return None
    found = [
        other
        for other in others
        if other.fit is not None
        and other is not tried
        and other.fit.accuracy >= tried.fit.accuracy
        and other.seconds <= tried.seconds
    ]
    return min(found, key=lambda other: other.seconds, default=None)


def steps(tried: Tried) -> list[Step]:
    """Thresholds to show, that which was learned among them."""
    shown = curve(tried.pair)
    if tried.fit is not None:
        threshold = tried.fit.threshold
        found = Step(
            threshold,
            tried.pair.share(threshold),
            tried.pair.score(tried.pair.answered(threshold)),
        )
        shown = sorted({*shown, found})
    return shown
