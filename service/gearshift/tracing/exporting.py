"""Sending spans: in the background, within bounds, and with few words when nobody takes them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

log = structlog.get_logger(__name__)

CHATTY = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal")
"""Loggers with a line for each attempt to send and for each span that is dropped."""


class Health(logging.Handler):
    """Says once that spans are not taken, and once that they are again."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(logging.WARNING)
        self._endpoint = endpoint
        self._reason = ""
        self._failing = False
        self._full = False
        self._lost = 0
        self._loggers = [logging.getLogger(name) for name in CHATTY]
        self._propagated = [logger.propagate for logger in self._loggers]
        for logger in self._loggers:
            logger.propagate = False
            logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """What the SDK says is kept as the reason; only that too much comes is told at once."""
        if record.name.startswith(CHATTY[0]):
            self._reason = record.getMessage()
        elif "ueue" in str(record.msg):
            if not self._full:
                self._full = True
                log.warning(
                    "spans are dropped: more come than are taken; a lower trace_ratio makes fewer",
                    endpoint=self._endpoint,
                )
        else:
            log.error("spans cannot be sent", reason=record.getMessage(), exc_info=record.exc_info)

    def sent(self, spans: int, taken: bool) -> None:
        """The collector has taken so many spans, or has not."""
        if not taken:
            self._lost += spans
            if not self._failing:
                self._failing = True
                log.warning(
                    "spans are not taken; requests are served all the same",
                    endpoint=self._endpoint,
                    reason=self._reason,
                )
        elif self._failing or self._full:
            if self._failing:
                log.info("spans are taken again", endpoint=self._endpoint, lost=self._lost)
            self._failing = self._full = False
            self._lost = 0

    def close(self) -> None:
        """Let the SDK's loggers be as they were."""
        for logger, propagated in zip(self._loggers, self._propagated, strict=True):
            logger.removeHandler(self)
            logger.propagate = propagated
        super().close()


class Exporting(SpanExporter):
    """An exporter whose health is watched."""

    def __init__(self, exporter: SpanExporter, health: Health) -> None:
        self._exporter = exporter
        self._health = health

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Called on the processor's thread."""
        result = self._exporter.export(spans)
        self._health.sent(len(spans), result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        """What is being sent is given up."""
        self._exporter.shutdown()

    def end(self, processor: Any, within: float) -> None:
        """Let the processor send what it holds, for at most so many seconds."""
        # A daemon: while nobody takes spans, the SDK may wait longer than that.
        ending = threading.Thread(target=processor.shutdown, name="gearshift-spans", daemon=True)
        ending.start()
        ending.join(within)
        if ending.is_alive():
            self._exporter.shutdown()
            ending.join(1.0)
        self._health.close()
