"""Traces as part of a serving process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gearshift import tracing
from gearshift.app.settings import Settings

SENT_WITHIN = 3.0
"""Seconds at the end in which what is held must be sent, whether a collector takes it or not."""


def check_tracing(settings: Settings) -> str:
    """Where traces are to be sent, "" for nowhere; ConfigurationInvalid if they cannot be."""
    endpoint = tracing.destination(settings.otel_endpoint, os.environ)
    if endpoint:
        tracing.require(endpoint)
    return endpoint


@asynccontextmanager
async def sending_traces(
    settings: Settings, process: int | None = None
) -> AsyncIterator[tracing.Traces | None]:
    """Traces until the block ends; None where they are not wanted. `process` is the number of this
    one of several."""
    endpoint = check_tracing(settings)
    if not endpoint:
        yield None
        return
    traces = tracing.start(endpoint, settings.trace_ratio, process)
    try:
        yield traces
    finally:
        await asyncio.to_thread(traces.close, SENT_WITHIN)
