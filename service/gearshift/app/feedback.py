"""Feedback as part of a serving process: put together, started, stopped in the reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from gearshift.app.settings import Settings
from gearshift.core.catalog import Catalog, Model
from gearshift.core.live import Verdict
from gearshift.feedback import (
    Book,
    ByVariant,
    FeedbackCollector,
    Learner,
    Readings,
    Recorder,
    Reporting,
    Store,
)
from gearshift.ports import Feedback, Journal
from gearshift.telemetry import PrometheusTelemetry

log = structlog.get_logger(__name__)

CLOSE_WITHIN = 10.0
"""Seconds that each part gets to end what it has begun."""


Corrects = Callable[[str, Mapping[str, float]], None]
"""A model, and by variant the accuracies that routing is to go by. Called on the event loop."""


Decides = Callable[[str, str, Verdict], None]
"""A model, one of its canaries and what is known about it for good. Called on the event loop."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What the other parts need: the engine's listeners, who rules on reports, and `follow`,
    which starts to tell what is learned. `exchanged` is told, on the loop, that another catalog is
    served, and its canaries; `forget`, that nothing of a generation is left."""

    journals: Sequence[Journal]
    feedback: Feedback | None
    follow: Follow
    exchanged: Callable[[Catalog, Collection[ByVariant]], None]
    forget: Callable[[Model], None]


class Follow(Protocol):
    def __call__(
        self, corrects: Corrects, canaries: Collection[ByVariant] = (), decides: Decides = ...
    ) -> None: ...


@asynccontextmanager
async def taking_feedback(
    settings: Settings,
    catalog: Catalog,
    telemetry: PrometheusTelemetry,
    *,
    among_others: bool = False,
) -> AsyncIterator[Taken]:
    """Feedback until the block ends; nothing of it where the setting says so. `among_others`: this
    process is one of several behind one port. A database that is away is waited for while serving
    goes on; ConfigurationInvalid for one that can never be used."""
    if not settings.feedback:
        yield Taken((), None, lambda *_: None, lambda *_: None, lambda _: None)
        return
    book, readings = Book(), Readings(catalog)
    store = Store(settings.feedback_database, settings.feedback_rows, settings.feedback_days)
    try:
        await asyncio.to_thread(store.prepare)
    except SQLAlchemyError as error:
        log.warning(
            "the feedback database cannot be used yet",
            database=store.where,
            reason=str(getattr(error, "orig", None) or error),
        )
    for model, reason in readings.why_not.items():
        log.info("no feedback for a model", model=model, reason=reason)
    recorder = Recorder(store, readings, book)
    reporting = Reporting(
        catalog,
        store,
        recorder,
        readings,
        book,
        elsewhere=among_others or bool(settings.feedback_url),
    )
    telemetry.registry.register(FeedbackCollector(book, readings))
    loop = asyncio.get_running_loop()
    learners: list[Learner] = []

    served = catalog

    def on_loop(tell: Callable[..., None]) -> Callable[..., None]:
        def told(model: str, *what: Any) -> None:
            (learner,) = learners
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(still, learner.generation_of(model), model, *what)

        def still(generation: int, model: str, *what: Any) -> None:
            """What was learned of one generation says nothing of the next."""
            now = served.models.get(model)
            if now is not None and now.generation == generation:
                tell(model, *what)

        return told

    def exchanged(catalog: Catalog, canaries: Collection[ByVariant]) -> None:
        nonlocal served
        served = catalog
        readings.follow(catalog)
        reporting.follow(catalog)
        for learner in learners:
            learner.follow(catalog, canaries)

    def forget(model: Model) -> None:
        readings.forget(model)
        if model.name not in served.models:
            book.forget(model.name)

    def follow(
        corrects: Corrects,
        canaries: Collection[ByVariant] = (),
        decides: Decides = lambda model, variant, verdict: None,
    ) -> None:
        learner = Learner(
            catalog,
            store,
            readings,
            book,
            on_loop(corrects),
            telemetry.learned,
            canaries,
            on_loop(decides),
        )
        learners.append(learner)
        learner.start()

    recorder.start()
    try:
        yield Taken((recorder,), reporting, follow, exchanged, forget)
    finally:
        await asyncio.to_thread(_close, reporting, learners, recorder, store)


def _close(
    reporting: Reporting, learners: Sequence[Learner], recorder: Recorder, store: Store
) -> None:
    reporting.close(CLOSE_WITHIN)
    for learner in learners:
        learner.close(CLOSE_WITHIN)
    recorder.close(CLOSE_WITHIN)
    store.close()
