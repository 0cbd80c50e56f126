"""What is learned while serving, and what follows from it: put together around the engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gearshift.app.drift import watching_drift
from gearshift.app.feedback import taking_feedback
from gearshift.app.settings import Settings
from gearshift.core.catalog import Catalog, Model, Standing
from gearshift.core.live import Verdict
from gearshift.engine import Engine, Journals
from gearshift.ports import Feedback, Journal
from gearshift.telemetry import PrometheusTelemetry

STANDINGS = {Verdict.PROMOTED: Standing.SERVING, Verdict.WITHDRAWN: Standing.WITHDRAWN}


@dataclass(frozen=True, slots=True)
class Learning:
    """The engine's listener, the share of requests that are run again for it, who rules on
    reports, and `correct`, which lets an engine go by what is learned.

    `prepare` reads what is needed of models before they are served, on any thread; `follow` is told
    on the loop that they are, and `forget` that nothing of a generation is left.
    """

    journal: Journal | None
    shadow_share: float
    feedback: Feedback | None
    correct: Callable[[Engine], None]
    prepare: Callable[[Iterable[Model]], None]
    follow: Callable[[Catalog], None]
    forget: Callable[[Model], None]


@asynccontextmanager
async def learning(
    settings: Settings,
    catalog: Catalog,
    telemetry: PrometheusTelemetry,
    *,
    among_others: bool = False,
) -> AsyncIterator[Learning]:
    """All that the settings want learned, until the block ends. `among_others`: this process is
    one of several behind one port."""
    async with taking_feedback(settings, catalog, telemetry, among_others=among_others) as taken:
        with watching_drift(settings, catalog, telemetry) as watch:
            listeners = [*taken.journals, *([] if watch is None else [watch])]

            def correct(engine: Engine) -> None:
                def decide(model: str, variant: str, verdict: Verdict) -> None:
                    standing = STANDINGS.get(verdict)
                    if standing is not None:
                        engine.revise(model, {}, {variant: standing})
                        telemetry.stands(model, variant, standing)

                taken.follow(
                    lambda model, accuracies: engine.revise(model, accuracies, {}),
                    _canaries(catalog),
                    decide,
                )

            def prepare(models: Iterable[Model]) -> None:
                if watch is not None:
                    watch.prepare(models)

            def follow(catalog: Catalog) -> None:
                taken.exchanged(catalog, _canaries(catalog))
                if watch is not None:
                    watch.follow(catalog)

            yield Learning(
                Journals(listeners) if listeners else None,
                # Shadows are for the store: without it nobody would look at them.
                settings.shadow_share if taken.journals else 0.0,
                taken.feedback,
                correct,
                prepare,
                follow,
                taken.forget,
            )


def _canaries(catalog: Catalog) -> list[tuple[str, str]]:
    return [
        (model.name, variant.name)
        for model in catalog.models.values()
        for variant in model.variants
        if variant.standing is Standing.CANARY
    ]
