"""The batches under way that have traced requests in them."""

from __future__ import annotations

from collections.abc import Sequence

from gearshift.core.decisions import Dispatch
from gearshift.engine.flight import Flight
from gearshift.ports import TracedBatch, TraceIds, Tracing, Worker


class TracedBatches:
    """By dispatch. `tracing` is None where nothing is traced."""

    def __init__(self, tracing: Tracing | None) -> None:
        self.tracing = tracing
        self._under_way: dict[int, TracedBatch] = {}

    def dispatched(
        self, dispatch: Dispatch, worker: Worker, members: Sequence[Flight], now: float
    ) -> None:
        """These leave the queue together."""
        if self.tracing is None:
            return
        traced = [(each.trace, each.ticket) for each in members if each.trace is not None]
        if traced:
            batch = self.tracing.dispatched(dispatch, worker, traced, now)
            if batch is not None:
                self._under_way[dispatch.id] = batch

    def ids(self, dispatch: Dispatch) -> TraceIds | None:
        """Of the span of a batch under way."""
        batch = self._under_way.get(dispatch.id)
        return None if batch is None else batch.ids

    def ended(
        self, dispatch: Dispatch, times: tuple[float, float, float], error: Exception | None
    ) -> TraceIds | None:
        """It has run, or `error` broke it; begun, put together and finished at these times."""
        if not self._under_way:
            return None
        batch = self._under_way.pop(dispatch.id, None)
        if batch is None:
            return None
        batch.ended(*times, error)
        return batch.ids

    def empty(self, dispatch: Dispatch) -> None:
        """All its members had left before it ran."""
        self._under_way.pop(dispatch.id, None)
