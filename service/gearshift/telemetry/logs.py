"""Structured logs on standard error: one form for our own lines and for the libraries'."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import TextIO

import structlog
from structlog.types import Processor

from gearshift.errors import ConfigurationInvalid

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("console", "json")

_LIBRARIES = ("grpc", "uvicorn", "uvicorn.error", "asyncio", "py.warnings")
"""Loggers that bring handlers of their own, or may: their lines go through ours."""


class _Kinds(logging.Filter):
    """Lets lines of these kinds through: debug, info, warning, error with all above it."""

    def __init__(self) -> None:
        super().__init__()
        self._shown = dict.fromkeys(LEVELS, True)

    def show(self, shown: Mapping[str, bool]) -> None:
        """From now on; of the others none is made."""
        self._shown = dict(shown)
        numbers = logging.getLevelNamesMapping()
        least = [numbers[level.upper()] for level in LEVELS if shown[level]]
        logging.getLogger().setLevel(min(least, default=logging.CRITICAL + 1))

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return self._shown["error"]
        if record.levelno >= logging.WARNING:
            return self._shown["warning"]
        return self._shown["info" if record.levelno >= logging.INFO else "debug"]


_KINDS = _Kinds()


def show(*, debug: bool, info: bool, warning: bool, error: bool) -> None:
    """Log lines of these kinds from now on, where `configure` has said."""
    _KINDS.show({"debug": debug, "info": info, "warning": warning, "error": error})


def configure(
    level: str = "info",
    format: str = "console",
    stream: TextIO | None = None,
) -> None:
    """Send every log line to `stream` (standard error) from now on.

    `format` is "console" for people or "json" for collectors, one object a line. Calling it
    again replaces the earlier setting. ConfigurationInvalid for an unknown word.
    """
    if level.lower() not in LEVELS:
        raise ConfigurationInvalid(f"log level {level!r}: expected one of {', '.join(LEVELS)}")
    if format not in FORMATS:
        raise ConfigurationInvalid(f"log format {format!r}: expected one of {', '.join(FORMATS)}")
    target = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        # Nothing on the way of a request logs, so a logger need not remember its settings;
        # that it does not lets tests and a second call change them.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderer(format, colors=target.isatty()),
            ],
        )
    )
    handler.addFilter(_KINDS)
    logging.getLogger().handlers[:] = [handler]
    least = LEVELS.index(level.lower())
    _KINDS.show({kind: place >= least for place, kind in enumerate(LEVELS)})
    logging.captureWarnings(True)
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.NOTSET)
    # What uvicorn does step by step is not news; a request's own fate is on /metrics.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").disabled = True


def _renderer(format: str, *, colors: bool) -> list[Processor]:
    if format == "console":
        # rich takes a tenth of a second for each, on the loop that serves: a variant that fails at
        # every run would keep all others from being answered.
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
