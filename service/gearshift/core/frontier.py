"""The frontier as people watch it: what each variant is worth, how fast it is, what it answers.

Counts at two moments go in, rates and shares between them come out. All views (the page,
`gearshift top`, WatchFrontier) show what is made here, so that they cannot differ.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise

from gearshift.core.catalog import Cascade

WINDOW = 60.0
"""Seconds that rates and shares look back."""

STEP = 5.0
"""Seconds between two kept snapshots."""

EARLY = 0.5
"""Seconds by which a timer may ring early: else a step would become two."""

KEPT = 61
"""Snapshots: five minutes."""

IN_TIME = "served"
"""The outcome of a request that was answered in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantSnapshot:
    """One variant, or one cascade, at one moment. Seconds; `answered` counts since the start,
    `p50` and `p99` are those of one row, `live` (with `low` and `high`) is from feedback.

    `shadowed` counts rows that were run again on the most accurate variant, `agreed` those where
    the two agreed, and `corrected` is the accuracy that follows from them and from labels.
    `standing` is "serving", "canary" or "withdrawn"; `resident` is False where memory has limits
    and it is loaded on no device. What a cascade answered counts for its
    variants as well.
    """

    name: str
    accuracy: float
    """What routing goes by."""
    declared: float
    source: str = "declared"
    """Where `declared` comes from: a card (measured) or model.toml."""
    live: float | None = None
    low: float | None = None
    high: float | None = None
    labels: int = 0
    fallen: bool = False
    standing: str = "serving"
    resident: bool = True
    shadowed: int = 0
    agreed: int = 0
    corrected: float | None = None
    corrected_low: float | None = None
    corrected_high: float | None = None
    cascade: bool = False
    p50: float | None = None
    p99: float | None = None
    answered: int = 0
    artifact_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSnapshot:
    """One service class at one moment; counts and sums since the start. The class "" is of
    requests that named none that is known."""

    name: str
    ended: Mapping[str, int] = field(default_factory=dict)
    """Requests by outcome."""
    answered: int = 0
    accuracy: float = 0.0
    deficit: float = 0.0
    waiting: int = 0

    @property
    def requests(self) -> int:
        return sum(self.ended.values())


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """Variants and classes by name."""

    variants: Mapping[str, VariantSnapshot] = field(default_factory=dict)
    classes: Mapping[str, ClassSnapshot] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every model at one moment: `at` on a clock that only goes forward, `time` since the
    epoch."""

    at: float
    time: float
    models: Mapping[str, ModelSnapshot]


@dataclass(frozen=True, slots=True)
class VariantView:
    """`rate` in answers a second, `share` of the model's answers."""

    now: VariantSnapshot
    rate: float = 0.0
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class ClassView:
    """What became of the requests of a window; None where there were none to judge by.

    `attainment` is the share of all that were answered in time, `goodput` how many that were a
    second, `served_accuracy` and `deficit` are means over the answers.
    """

    now: ClassSnapshot
    ended: Mapping[str, int]
    attainment: float | None
    goodput: float
    served_accuracy: float | None
    deficit: float | None

    @property
    def requests(self) -> int:
        return sum(self.ended.values())


@dataclass(frozen=True, slots=True)
class ModelView:
    """Most accurate first."""

    name: str
    variants: tuple[VariantView, ...]
    classes: tuple[ClassView, ...]


@dataclass(frozen=True, slots=True)
class View:
    """`window` is how many seconds before `time` the rates and shares are of."""

    time: float
    window: float
    models: tuple[ModelView, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One class in one step of the history: `rate` in requests a second."""

    attainment: float | None
    rate: float


class History:
    """The snapshots of the last minutes: every STEP seconds one, and the newest."""

    def __init__(self) -> None:
        self._kept: deque[Snapshot] = deque(maxlen=KEPT)
        self._newest: Snapshot | None = None

    def add(self, snapshot: Snapshot) -> None:
        """The newest snapshot; it is kept if the one kept before is a step old."""
        self._newest = snapshot
        if not self._kept or snapshot.at - self._kept[-1].at >= STEP - EARLY:
            self._kept.append(snapshot)

    @property
    def newest(self) -> Snapshot | None:
        return self._newest

    def view(self) -> View:
        """Now, with the last WINDOW seconds or as many as there are."""
        now = self._newest
        if now is None:
            return View(0.0, 0.0, ())
        then = self._kept[0]
        for kept in self._kept:
            if kept.at > now.at - WINDOW:
                break
            then = kept
        return between(then, now)

    def steps(self, model: str, service_class: str) -> list[Step]:
        """What became of a class, step by step, the oldest first."""
        found = []
        for then, now in pairwise(self._kept):
            known = now.models.get(model, ModelSnapshot()).classes.get(service_class)
            if known is not None:
                before = then.models.get(model, ModelSnapshot()).classes.get(service_class)
                seen = _class(before, known, now.at - then.at)
                found.append(Step(seen.attainment, seen.requests / max(now.at - then.at, 1e-9)))
        return found


def between(then: Snapshot, now: Snapshot) -> View:
    """What happened from one moment to another, and how things stand at the second."""
    seconds = max(0.0, now.at - then.at)
    models = []
    for name, model in now.models.items():
        before = then.models.get(name, ModelSnapshot())
        gained = {
            variant.name: _grown(before.variants, variant) for variant in model.variants.values()
        }
        # An answer of a cascade is one of a variant, too.
        total = sum(gained[each.name] for each in model.variants.values() if not each.cascade)
        variants = [
            VariantView(
                variant,
                gained[variant.name] / seconds if seconds else 0.0,
                gained[variant.name] / total if total else 0.0,
            )
            for variant in model.variants.values()
        ]
        models.append(
            ModelView(
                name,
                _ordered(variants),
                tuple(
                    _class(before.classes.get(each.name), each, seconds)
                    for each in model.classes.values()
                ),
            )
        )
    return View(now.time, seconds, tuple(models))


def with_cascades(model: ModelView, cascades: Sequence[Cascade]) -> ModelView:
    """The model with every cascade where it stands: its median is that of the first variant and,
    for the share of rows that go on, of the second; its p99 is that of both."""
    points = {variant.now.name: variant for variant in model.variants}
    for cascade in cascades:
        first, then = points.get(cascade.first), points.get(cascade.then)
        if first is None or then is None:
            continue
        a, b = first.now, then.now
        p50 = p99 = None
        if a.p50 is not None and b.p50 is not None:
            p50 = a.p50 + cascade.escalated * b.p50
        if a.p99 is not None and b.p99 is not None:
            p99 = a.p99 + b.p99
        bare = VariantSnapshot(
            name=cascade.name,
            accuracy=cascade.accuracy,
            declared=cascade.accuracy,
            source="measured",
            cascade=True,
        )
        counted = points.get(cascade.name, VariantView(bare))
        points[cascade.name] = replace(counted, now=replace(counted.now, p50=p50, p99=p99))
    return replace(model, variants=_ordered(list(points.values())))


def _ordered(variants: Sequence[VariantView]) -> tuple[VariantView, ...]:
    return tuple(sorted(variants, key=lambda each: -each.now.accuracy))


def _grown(before: Mapping[str, VariantSnapshot], variant: VariantSnapshot) -> int:
    known = before.get(variant.name)
    return max(0, variant.answered - (known.answered if known else 0))


def _class(then: ClassSnapshot | None, now: ClassSnapshot, seconds: float) -> ClassView:
    before = then or ClassSnapshot(name=now.name)
    ended = {
        outcome: max(0, count - before.ended.get(outcome, 0))
        for outcome, count in now.ended.items()
    }
    total, in_time = sum(ended.values()), ended.get(IN_TIME, 0)
    answered = now.answered - before.answered
    return ClassView(
        now,
        ended,
        in_time / total if total else None,
        in_time / seconds if seconds else 0.0,
        (now.accuracy - before.accuracy) / answered if answered > 0 else None,
        # What is left of sums of floats must not look like more than the best.
        max(0.0, (now.deficit - before.deficit) / answered) if answered > 0 else None,
    )


def packed(view: View) -> bytes:
    """The view for another process of this program; see `unpacked`."""
    return json.dumps(asdict(view), separators=(",", ":")).encode()


def unpacked(body: bytes) -> View:
    """What `packed` packed."""
    told = json.loads(body)
    return View(
        told["time"],
        told["window"],
        tuple(
            ModelView(
                model["name"],
                tuple(
                    VariantView(VariantSnapshot(**each.pop("now")), **each)
                    for each in model["variants"]
                ),
                tuple(
                    ClassView(ClassSnapshot(**each.pop("now")), **each) for each in model["classes"]
                ),
            )
            for model in told["models"]
        ),
    )
