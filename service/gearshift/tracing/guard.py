"""A fault in tracing costs a trace, never an answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import structlog

log = structlog.get_logger(__name__)

P = ParamSpec("P")

_told: set[str] = set()


def tell(what: str, error: Exception) -> None:
    """Log what failed, the first time."""
    if what not in _told:
        _told.add(what)
        log.error("tracing failed; this is told once", step=what, exc_info=error)


def harmless(method: Callable[P, None]) -> Callable[P, None]:
    """The method, which no longer raises."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - answers go out whatever broke
            tell(method.__qualname__, error)

    return call
