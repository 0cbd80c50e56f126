"""What a simulation showed: the record that the runner keeps, and its summary."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gearshift.core.catalog import Variant
from gearshift.errors import Outcome
from gearshift.simulate.scenario import Scenario

CODES = {
    outcome: code
    for code, outcome in enumerate(
        (Outcome.SERVED, Outcome.LATE, Outcome.SHED, Outcome.INFEASIBLE, Outcome.EXPIRED), start=1
    )
}
"""How each ending is written in the record; 0 is a request that has not ended."""

ROUNDING = 1e-9
"""Seconds. Sums of floats may differ by less than this without an answer being late."""

SERVED, LATE = CODES[Outcome.SERVED], CODES[Outcome.LATE]


class Record:
    """One number a request and one a decision: cheap to keep, summed up at the end."""

    __slots__ = (
        "admit_ns",
        "answered_by",
        "busy",
        "columns",
        "decide_ns",
        "endings",
        "plan_ns",
        "seconds",
        "settled",
        "span",
        "worker_seconds",
    )

    def __init__(self, requests: int) -> None:
        self.endings = bytearray(requests)
        self.answered_by = array("i", bytes(4 * requests))
        self.seconds = array("d", bytes(8 * requests))
        self.settled = 0
        self.columns: list[tuple[str, Variant]] = []
        self.busy: set[int] = set()
        self.worker_seconds: dict[int, float] = {}
        self.span = 0.0
        self.admit_ns = array("q")
        self.decide_ns = array("q")
        self.plan_ns = array("q")

    def column(self, model: str, variant: Variant) -> int:
        """The number by which the record calls a variant."""
        if (model, variant) not in self.columns:
            self.columns.append((model, variant))
        return self.columns.index((model, variant))

    def busy_worker(self, worker: int) -> bool:
        return worker in self.busy

    def begin(self, worker: int) -> None:
        self.busy.add(worker)

    def end(self, worker: int, took: float) -> None:
        """The worker is free again after `took` seconds."""
        self.busy.discard(worker)
        self.worker_seconds[worker] = self.worker_seconds.get(worker, 0.0) + took

    def answer(
        self, request: int, column: int, deadline: float, now: float, seconds: float
    ) -> None:
        """The request was answered, at its share of `seconds` of a worker's time."""
        self.endings[request] = SERVED if now <= deadline + ROUNDING else LATE
        self.answered_by[request] = column
        self.seconds[request] = seconds
        self.settled += 1

    def refuse(self, request: int, outcome: Outcome) -> None:
        """The request ended without an answer."""
        self.endings[request] = CODES[outcome]
        self.settled += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Under which conditions a simulation ran."""

    policy: str
    seed: int
    speed_up: float
    noise: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How a group of requests fared.

    `served` are those answered in time, `shed` refused at admission for load, `infeasible`
    refused because no variant could ever answer them in time at their floor, `expired`
    dropped while waiting. `attainment` is the served share of all requests;
    `mean_served_accuracy` the mean over the served, None without any, and
    `served_accuracy_deviation` their standard deviation (0 without any); `effective_accuracy`
    the mean over all, one that was not served counting as 0. `utilisation` is the share of
    all workers' time that their answers took.
    """

    requests: int
    served: int
    late: int
    shed: int
    infeasible: int
    expired: int
    attainment: float
    mean_served_accuracy: float | None
    served_accuracy_deviation: float
    effective_accuracy: float
    utilisation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long calls took on this machine: the one part of a result that never repeats."""

    p50: float
    p99: float
    mean: float
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Megabytes that each limited device holds, what was loaded while requests came, and the
    seconds that it took, on all devices together."""

    limits: Mapping[str, float]
    loads: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One policy on one scenario under one set of conditions.

    `decision_us` is the time of one call of `decide` divided by the batches that it
    started, if any; `plan_ms` is None without a planner, `loading` where everything is loaded.
    `per_model_class` is by `model/class`. `variants` counts answers, late
    ones too, by model and variant; those of a cascade by its name and who gave them
    (`name/first`, `name/then`, `name/fallback`).
    """

    conditions: Conditions
    total: Figures
    per_model: Mapping[str, Figures]
    per_class: Mapping[str, Figures]
    per_model_class: Mapping[str, Figures]
    utilisation_per_device: Mapping[str, float]
    variants: Mapping[str, Mapping[str, int]]
    decision_us: Times
    admit_us: Times
    plan_ms: Times | None
    workers: Mapping[str, int]
    files: Mapping[str, Mapping[str, str]]
    loading: Loading | None = None

    def to_json(self) -> dict[str, Any]:
        """The result as JSON holds it: conditions and totals at the top level."""
        nested = asdict(self)
        return {**nested.pop("conditions"), **nested.pop("total"), **nested}


def summarise(
    scenario: Scenario, conditions: Conditions, record: Record, loading: Loading | None = None
) -> Result:
    """Sum the record up, over all requests and by model and class."""
    workload = scenario.workload
    summary = _Summary(record, len(scenario.workers))
    per_device = {
        device: sum(
            record.worker_seconds.get(w, 0.0) for w, d in scenario.workers.items() if d == device
        )
        / max(count * record.span, 1e-12)
        for device, count in scenario.counts.items()
    }
    return Result(
        conditions=conditions,
        total=summary.figures(slice(None)),
        per_model=summary.by(workload.models),
        per_class=summary.by(workload.classes),
        per_model_class=summary.by(
            [f"{m}/{c}" for m, c in zip(workload.models, workload.classes, strict=True)]
        ),
        utilisation_per_device=per_device,
        variants=summary.variants(),
        decision_us=_times(record.decide_ns, 1e3),
        admit_us=_times(record.admit_ns, 1e3),
        plan_ms=_times(record.plan_ns, 1e6) if record.plan_ns else None,
        workers=scenario.counts,
        files={
            role: {"name": source.name, "sha256": source.sha256}
            for role, source in scenario.sources.items()
        },
        loading=loading,
    )


class _Summary:
    """The record as arrays over the requests."""

    def __init__(self, record: Record, workers: int) -> None:
        self._columns = record.columns
        self._endings = np.frombuffer(record.endings, dtype=np.uint8)
        self._answered_by = np.frombuffer(record.answered_by, dtype=np.int32)
        self._seconds = np.frombuffer(record.seconds, dtype=np.float64)
        accuracies = np.array([variant.accuracy for _, variant in record.columns])
        self._accuracy = np.where(self._endings == SERVED, accuracies[self._answered_by], 0.0)
        self._available = max(workers * record.span, 1e-12)

    def by(self, labels: Sequence[str]) -> Mapping[str, Figures]:
        found, group = np.unique(np.array(labels), return_inverse=True)
        return {
            str(label): self.figures(np.flatnonzero(group == number))
            for number, label in enumerate(found)
        }

    def figures(self, chosen: npt.NDArray[np.intp] | slice) -> Figures:
        endings = self._endings[chosen]
        counts = {
            outcome.value: int(np.count_nonzero(endings == code)) for outcome, code in CODES.items()
        }
        requests, served = len(endings), counts["served"]
        accuracy = self._accuracy[chosen]
        gained = float(accuracy.sum())
        return Figures(
            requests=requests,
            **counts,
            attainment=served / requests if requests else 0.0,
            mean_served_accuracy=gained / served if served else None,
            served_accuracy_deviation=float(accuracy[endings == SERVED].std()) if served else 0.0,
            effective_accuracy=gained / requests if requests else 0.0,
            utilisation=float(self._seconds[chosen].sum()) / self._available,
        )

    def variants(self) -> Mapping[str, Mapping[str, int]]:
        answered = (self._endings == SERVED) | (self._endings == LATE)
        counts = np.bincount(self._answered_by[answered], minlength=len(self._columns))
        by_model: dict[str, dict[str, int]] = {}
        for (model, variant), count in zip(self._columns, counts.tolist(), strict=True):
            if count:
                by_model.setdefault(model, {})[variant.name] = count
        return by_model


def _times(nanoseconds: array[int], unit: float) -> Times:
    values = np.frombuffer(nanoseconds, dtype=np.int64) / unit if nanoseconds else np.zeros(1)
    p50, p99 = np.percentile(values, (50, 99))
    return Times(p50=float(p50), p99=float(p99), mean=float(values.mean()), calls=len(nanoseconds))
