"""What is logged and traced, while it runs: in this process, or decided here for all of several."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from gearshift import telemetry, tracing
from gearshift.app.settings import Settings
from gearshift.app.tracing import check_tracing
from gearshift.core.observability import (
    Beginning,
    LogValue,
    LogValues,
    Observability,
    TraceValues,
    log_settings,
    trace_settings,
    with_logs,
    with_traces,
)

log = structlog.get_logger(__name__)


def beginning(settings: Settings) -> Beginning:
    """How a server with these settings starts. ConfigurationInvalid as `check_tracing`."""
    level = telemetry.LOG_LEVELS.index(settings.log_level)
    shown = [place >= level for place in range(len(telemetry.LOG_LEVELS))]
    traceable = bool(check_tracing(settings))
    ratio = settings.trace_ratio
    state = Observability(
        info=shown[1],
        warning=shown[2],
        error=shown[3],
        verbose=int(shown[0]),
        traced=traceable,
        rate=round(1 / ratio) if ratio else 0,
    )
    return Beginning(state, traceable, tracing.environment_samples())


@dataclass(frozen=True, slots=True)
class Here:
    """What is in this process: its log, and its traces where there are any."""

    begun: Beginning
    traces: tracing.Traces | None = None

    def follow(self, state: Observability) -> None:
        """Log and trace so from now on. On the loop."""
        telemetry.show_logs(
            debug=state.verbose > 0, info=state.info, warning=state.warning, error=state.error
        )
        if self.traces is not None:
            models = {name: self._share(*state.of(name)) for name in state.models}
            self.traces.sample(self._share(state.traced, state.rate), models)

    def _share(self, traced: bool, rate: int) -> tracing.Share:
        # A share that cannot be said as one of so many stays what it was.
        same = rate == self.begun.state.rate
        return tracing.Share(traced, None if same else 1 / rate)


class Observed:
    """Fills `gearshift.ports.Observing`: one change at a time, carried out by `spread`."""

    def __init__(
        self, begun: Beginning, spread: Callable[[Observability], Awaitable[None]]
    ) -> None:
        """`spread` lets all follow; NotReady if somebody does not."""
        self._begun = begun
        self._spread = spread
        self._turn = asyncio.Lock()
        self.state = begun.state

    @classmethod
    def alone(cls, here: Here) -> Observed:
        """Where this process is all there is."""

        async def spread(state: Observability) -> None:
            here.follow(state)

        return cls(here.begun, spread)

    async def logs(self, changes: LogValues) -> Mapping[str, LogValue]:
        async with self._turn:
            if changes:
                await self._change(with_logs(self.state, changes))
        return log_settings(self.state)

    async def traces(self, changes: TraceValues, model: str = "") -> Mapping[str, Sequence[str]]:
        async with self._turn:
            if changes:
                await self._change(with_traces(self.state, self._begun, changes, model))
        return trace_settings(self.state, model)

    async def _change(self, state: Observability) -> None:
        before = self.state.pack()
        told = {name: new for name, new in state.pack().items() if new != before[name]}
        log.info("what is logged and traced is set", **told)
        # Also where it is nothing new: somebody may not have followed before.
        self.state = state
        await self._spread(state)
