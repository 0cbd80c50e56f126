"""What a server is, beside what it has done: ready or not, draining since when, serving which
catalog."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gearshift.core.catalog import Catalog, Model
from gearshift.telemetry.details import details


class Life(Collector):
    """From starting to serving to draining. Told on one thread, read on others; `clock` gives
    seconds and goes forward."""

    def __init__(
        self,
        catalog: Catalog,
        drain_limit: float,
        *,
        alive: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`drain_limit` is how many seconds admitted requests get at shutdown; `alive` is False
        while only another process would help."""
        self._digest = digest(catalog)
        self._drain_limit = drain_limit
        self._alive = alive
        self._clock = clock
        self._draining_since: float | None = None
        self._serving = False

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self._serving and self._alive()

    def follow(self, catalog: Catalog) -> None:
        """Another catalog is served from now on."""
        self._digest = digest(catalog)

    def forget(self, model: Model) -> None:
        """Nothing is kept of a generation by itself."""

    def serves(self) -> None:
        """Requests are taken from now on."""
        self._serving = True

    def drains(self) -> None:
        """No new requests are taken; those that were get their time."""
        self._serving = False
        self._draining_since = self._clock()

    def collect(self) -> Iterator[Metric]:
        since = self._draining_since
        yield GaugeMetricFamily(
            "gearshift_ready", "1 while requests are taken.", value=float(self.ready)
        )
        yield GaugeMetricFamily(
            "gearshift_drain_seconds",
            "How long the server has been draining; 0 while it is not.",
            value=0.0 if since is None else self._clock() - since,
        )
        yield GaugeMetricFamily(
            "gearshift_drain_limit_seconds",
            "Time that admitted requests get at shutdown.",
            value=self._drain_limit,
        )
        catalog = GaugeMetricFamily(
            "gearshift_catalog_info",
            "Always 1; the digest is the same wherever the same catalog is served.",
            labels=("digest",),
        )
        catalog.add_metric((self._digest,), 1)
        yield catalog


def digest(catalog: Catalog) -> str:
    """Twelve hexadecimal digits of what makes a catalog: classes, signatures, variants with
    their artifacts and cards, cascades. Not where it lies, and not what labels have said since."""
    told = details(catalog)
    artifacts = {
        f"{model.name}/{variant.name}": (
            variant.accuracy,
            variant.artifact_bytes,
            variant.artifact_sha256,
            variant.share,
        )
        for model in catalog.models.values()
        for variant in model.variants
    }
    text = json.dumps([told, artifacts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
