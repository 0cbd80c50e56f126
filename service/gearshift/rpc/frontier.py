"""WatchFrontier: how the trade-off stands now, again and again until the caller leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from gearshift.core.catalog import Catalog, Model
from gearshift.core.frontier import ClassView, ModelView, VariantView, View, with_cascades
from gearshift.engine import Engine
from gearshift.errors import InvalidInput, NotReady, RequestError
from gearshift.rpc.status import abort
from gearshift.v1 import gearshift_pb2 as pb

Frontier = Callable[[], Awaitable[View]]
"""How things stand now, in all processes together; TimeoutError if one has not told in time."""

LEAST_INTERVAL = 0.2
USUAL_INTERVAL = 1.0
"""Seconds between two messages: as often as makes sense, and where the caller says nothing."""

LOOK_EVERY = 0.25
"""Seconds between two looks whether the server still serves, so that no watcher holds up its
end."""


class FrontierMethods:
    """The method of the servicer; `_engine` and `_frontier` are the servicer's to set."""

    _engine: Engine
    _frontier: Frontier | None

    async def WatchFrontier(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """NOT_FOUND for a model that is not served, INVALID_ARGUMENT for an interval below
        zero; UNAVAILABLE once the server stops."""
        frontier = self._frontier
        try:
            if frontier is None:
                raise NotReady("nobody watches the frontier of this server")
            for name in request.models:
                self._engine.catalog.model(name)
            if request.interval_ms < 0:
                raise InvalidInput(
                    f"interval_ms is {request.interval_ms}; it must be 0 (one second) or more"
                )
        except RequestError as error:
            await abort(context, error)
            return
        interval = max(LEAST_INTERVAL, request.interval_ms / 1e3 or USUAL_INTERVAL)
        wanted = frozenset(request.models)
        loop = asyncio.get_running_loop()
        while True:
            next_at = loop.time() + interval
            try:
                view = await frontier()
            except TimeoutError:
                await abort(context, NotReady("the other processes did not tell; try again"))
                return
            # Another catalog may be served by now; of a model that is gone nothing is said.
            yield response(view, self._engine.catalog, wanted)
            while (left := next_at - loop.time()) > 0:
                await asyncio.sleep(min(left, LOOK_EVERY))
                if not self._engine.ready:
                    await abort(context, NotReady("the server is shutting down"))


def response(view: View, catalog: Catalog, wanted: frozenset[str] = frozenset()) -> Any:
    """WatchFrontierResponse of the models that are `wanted`; none means all."""
    return pb.WatchFrontierResponse(
        time=view.time,
        window_seconds=view.window,
        models=[
            _model(model, catalog.models[model.name])
            for model in view.models
            if model.name in catalog.models and (not wanted or model.name in wanted)
        ],
    )


def _model(view: ModelView, model: Model) -> Any:
    versions = {variant.name: variant.version for variant in model.variants}
    return pb.ModelFrontier(
        name=model.name,
        metric=model.metric,
        variants=[
            _variant(variant, versions.get(variant.now.name, 0))
            for variant in with_cascades(view, model.cascades).variants
        ],
        classes=[_class(each) for each in view.classes if each.now.name],
    )


def _variant(view: VariantView, version: int) -> Any:
    now = view.now
    return pb.VariantPoint(
        name=now.name,
        version=version,
        accuracy=now.accuracy,
        declared_accuracy=now.declared,
        live_accuracy=now.live,
        live_low=now.low,
        live_high=now.high,
        labels=now.labels,
        p50_ms=(now.p50 or 0.0) * 1e3,
        p99_ms=(now.p99 or 0.0) * 1e3,
        rate=view.rate,
        share=view.share,
        artifact_bytes=now.artifact_bytes,
    )


def _class(view: ClassView) -> Any:
    return pb.ClassState(
        name=view.now.name,
        attainment=view.attainment,
        goodput=view.goodput,
        served_accuracy=view.served_accuracy,
        accuracy_deficit=view.deficit,
        waiting=view.now.waiting,
    )
