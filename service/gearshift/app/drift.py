"""The drift watch as part of a serving process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gearshift.app.settings import Settings
from gearshift.core.catalog import Catalog
from gearshift.drift import DriftCollector, DriftWatch
from gearshift.telemetry import PrometheusTelemetry


@contextmanager
def watching_drift(
    settings: Settings, catalog: Catalog, telemetry: PrometheusTelemetry
) -> Iterator[DriftWatch | None]:
    """The listener to answers that watches their inputs, and its metrics, until the block ends;
    None where the setting says so."""
    if not settings.drift:
        yield None
        return
    watch = DriftWatch(catalog)
    telemetry.registry.register(DriftCollector(lambda: watch.drifts))
    watch.start()
    try:
        yield watch
    finally:
        watch.close()
