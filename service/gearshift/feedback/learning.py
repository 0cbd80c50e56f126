"""From labels to what the variants are worth: a thread that looks at the windows that changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import structlog

from gearshift.core import shadowing
from gearshift.core.catalog import Cascade, Catalog, Model, Variant
from gearshift.core.live import (
    Estimate,
    Kind,
    Verdict,
    below_all,
    estimate,
    fallen,
    shrunk,
    verdict,
)
from gearshift.core.revision import follow
from gearshift.feedback.answers import Readings
from gearshift.feedback.book import Book, ByVariant, Standing
from gearshift.feedback.gears import gears
from gearshift.feedback.retry import BROKEN, Retry
from gearshift.feedback.store import Store

log = structlog.get_logger(__name__)

LOOK_EVERY = 1.0
SHADOWS_EVERY = 15.0
"""Seconds at least."""

LARGEST_PART = 0.02
"""Of one core's time. With very many labels it is looked less often."""

OnLive = Callable[[Mapping[ByVariant, float]], None]
"""All live accuracies that there are. Called on the learner's thread."""

OnChange = Callable[[str, Mapping[str, float]], None]
"""A model, and by variant and cascade what routing is to go by from now on. Called on the
learner's thread."""


OnVerdict = Callable[[str, str, Verdict], None]
"""A model, a canary and what is known about it now, for good. Called on the learner's thread."""


class Learner:
    """Keeps `book` up to date and tells `on_change`, between `start` and `close`; and `on_verdict`,
    of those variants that are `canaries`, once each.

    Whatever it finds is found from the database alone: another process, or this one after a
    restart, finds the same.
    """

    def __init__(
        self,
        catalog: Catalog,
        store: Store,
        readings: Readings,
        book: Book,
        on_change: OnChange,
        on_live: OnLive = lambda live: None,
        canaries: Collection[ByVariant] = (),
        on_verdict: OnVerdict = lambda model, variant, verdict: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._models: list[Model] = []
        self._readings = readings
        self._store = store
        self._book = book
        self._on_change = on_change
        self._on_live = on_live
        self._undecided: set[ByVariant] = set()
        self._on_verdict = on_verdict
        self._clock = clock
        self._artifacts: dict[int, tuple[Model, Variant]] = {}
        self._seen: int | None = None
        self._shadows_at = -SHADOWS_EVERY
        self._stopping = threading.Event()
        self._retry = Retry("live accuracies stay as they were")
        self._thread = threading.Thread(target=self._run, name="learner", daemon=True)
        self._followed = self._following = (catalog, canaries)
        self._adopt(catalog, canaries)

    def start(self) -> None:
        self._thread.start()

    def follow(self, catalog: Catalog, canaries: Collection[ByVariant]) -> None:
        """Learn for this catalog from the next look on. From any thread."""
        self._following = (catalog, canaries)

    def generation_of(self, model: str) -> int:
        """Of which generation what is told now is. On the learner's thread."""
        return next(each.generation for each in self._models if each.name == model)

    def close(self, within: float) -> None:
        """Stop; a look that is under way gets so many seconds."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(within)

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            begun = time.thread_time()
            self.look(time.monotonic())
            took = time.thread_time() - begun
            pause = max(LOOK_EVERY, took / LARGEST_PART, self._retry.pause)

    def _adopt(self, catalog: Catalog, canaries: Collection[ByVariant]) -> None:
        """Begin anew with what is of another generation; what is known of the others stays."""
        before = {model.name: model.generation for model in self._models}
        known, readable = self._book.standings, self._readings.models
        self._models = [model for name, model in catalog.models.items() if name in readable]
        same = {m.name for m in self._models if before.get(m.name) == m.generation}
        standings = {}
        for model in self._models:
            for each in gears(model):
                names = (model.name, each.name)
                fresh = Standing(
                    None, each.accuracy, fallen=False, cascade=each not in model.variants
                )
                standings[names] = known.get(names, fresh) if model.name in same else fresh
        self._undecided = {
            names for names in canaries if names[0] not in same or names in self._undecided
        }
        self._book.standings = standings
        self._seen = None

    def look(self, now: float) -> None:
        """Look at what has changed since the last time; `now` on a clock that goes forward."""
        try:
            if self._following is not self._followed:
                self._followed = self._following
                self._adopt(*self._followed)
            self._look_at_labels()
            if now - self._shadows_at >= SHADOWS_EVERY:
                self._shadows_at = now
                self._look_at_shadows()
            self._retry.worked()
            self._book.failing["accuracies"] = False
        except BROKEN as error:
            self._retry.failed(error)
            self._book.failing["accuracies"] = True
        except Exception:
            # The next look may go well; serving goes on by what was known.
            log.exception("live accuracies could not be made")

    def _look_at_labels(self) -> None:
        if self._seen is None:
            seen = self._store.latest()
            self._artifacts = {
                self._store.artifact(model, variant): (model, variant)
                for model in self._models
                for variant in gears(model)
            }
            changed = dict.fromkeys(self._artifacts, seen)
            for artifact, decided in self._store.verdicts().items():
                if artifact in self._artifacts:
                    self._decided(artifact, decided, "a canary was decided before")
        else:
            changed = self._store.changed(self._seen)
            seen = max(changed.values(), default=self._seen)
        found: dict[ByVariant, Standing] = {}
        for artifact in changed.keys() & self._artifacts.keys():
            model, variant = self._artifacts[artifact]
            live = estimate(model.metric, self._store.window(artifact))
            found[model.name, variant.name] = self._standing(model, variant, live)
            self._judge(artifact, model, variant, live)
        self._seen = seen
        self._tell(found)

    def _standing(self, model: Model, variant: Variant, live: Estimate | None) -> Standing:
        before = self._book.standings[model.name, variant.name]
        if live is None:
            return replace(before, live=None, used=variant.accuracy, fallen=False, out=False)
        used = shrunk(variant.accuracy, live.value, live.error_towards(variant.accuracy))
        low = _lowest(variant)
        # Up again is what is no more below the interval, not what is no more certainly below.
        down = fallen(low, live) or (before.fallen and live.value < low)
        floors = [each.floor for each in model.classes.values()]
        # Of a cascade, floors ask what its variants are.
        out = not before.cascade and below_all(floors, variant.accuracy, used)
        return replace(before, live=live, used=used, fallen=down, out=out)

    def _judge(self, artifact: int, model: Model, variant: Variant, live: Estimate | None) -> None:
        if (model.name, variant.name) not in self._undecided:
            return
        judged = verdict(_lowest(variant), live)
        if judged is not Verdict.UNDECIDED:
            stands = self._store.decide(artifact, judged, self._clock())
            self._decided(artifact, stands, "a canary is decided", **_facts(variant, live))

    def _decided(self, artifact: int, decided: Verdict, event: str, **facts: float) -> None:
        model, variant = self._artifacts[artifact]
        names = (model.name, variant.name)
        if names in self._undecided:
            self._undecided.remove(names)
            log.info(event, model=names[0], variant=names[1], verdict=decided.value, **facts)
            self._on_verdict(*names, decided)

    def _tell(self, found: Mapping[ByVariant, Standing]) -> None:
        before = self._book.standings
        now = {**before, **found}
        for model in self._models:
            for cascade in model.cascades:
                names = (model.name, cascade.name)
                now[names] = replace(now[names], used=_used(model, cascade, now))
        self._book.standings = now
        if found:
            self._on_live({names: each.live.value for names, each in now.items() if each.live})
        for model in self._models:
            moved = False
            for variant in gears(model):
                names = (model.name, variant.name)
                standing = now[names]
                moved |= standing.used != before[names].used
                if standing.fallen != before[names].fallen:
                    _log_fall(model, variant, standing)
                if standing.out and not before[names].out:
                    log.warning(
                        "a variant is below every floor that its card reaches",
                        model=model.name,
                        variant=variant.name,
                        card=round(variant.accuracy, 4),
                        used=round(standing.used, 4),
                    )
            if moved:
                self._on_change(
                    model.name,
                    {each.name: now[model.name, each.name].used for each in gears(model)},
                )

    def _look_at_shadows(self) -> None:
        found = {}
        for artifact, shadows in self._store.shadows().items():
            named = self._artifacts.get(artifact)
            if named is None:
                continue
            model, variant = named
            reading = self._readings.models.get(model.name)
            if reading is not None and reading.kind is Kind.CLASS:
                judged = shadowing.accuracy(shadows)
                if judged is not None:
                    found[model.name, variant.name] = judged
        self._book.shadow_accuracy = found


def _lowest(variant: Variant) -> float:
    """The lower end of its card's interval; what is only declared has none."""
    return variant.card.accuracy.low if variant.card else variant.accuracy


def _used(model: Model, cascade: Cascade, standings: Mapping[ByVariant, Standing]) -> float:
    """What a cascade is worth: as `gearshift.core.revision` says of one whose variants have
    moved, and from there towards what its own labels say."""
    moved = {
        name: standings[model.name, name].used - model.by_name(name).accuracy
        for name in (cascade.first, cascade.then)
    }
    followed = follow(cascade, moved)
    live = standings[model.name, cascade.name].live
    if live is None:
        return followed
    return shrunk(followed, live.value, live.error_towards(followed))


def _log_fall(model: Model, variant: Variant, standing: Standing) -> None:
    facts = {"model": model.name, "variant": variant.name, **_facts(variant, standing.live)}
    if standing.fallen:
        log.warning("a variant's live accuracy has fallen below its card", **facts)
    else:
        log.info("a variant's live accuracy is as its card says again", **facts)


def _facts(variant: Variant, live: Estimate | None) -> dict[str, float]:
    """What a log line says of a variant's accuracies."""
    facts: dict[str, float] = {"card": round(variant.accuracy, 4)}
    if live is not None:
        facts |= {
            "live": round(live.value, 4),
            "low": round(live.low, 4),
            "high": round(live.high, 4),
            "labels": live.labels,
        }
    return facts
