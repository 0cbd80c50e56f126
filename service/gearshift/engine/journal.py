"""Several listeners where the engine has one."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from gearshift.engine.log_keys import of_requests
from gearshift.ports import Batch, Journal

log = structlog.get_logger(__name__)


class Journals:
    """Passes on to each listener in turn. What one raises neither reaches the others nor the
    engine; it is logged the first time."""

    def __init__(self, listeners: Iterable[Journal]) -> None:
        self._listeners = tuple(listeners)
        self._failed: set[int] = set()

    def answered(self, batch: Batch) -> None:
        for listener in self._listeners:
            try:
                listener.answered(batch)
            except Exception as error:  # noqa: BLE001 - answers go out whatever broke
                self._tell(listener, batch, error)

    def shadowed(self, batch: Batch) -> None:
        for listener in self._listeners:
            try:
                listener.shadowed(batch)
            except Exception as error:  # noqa: BLE001 - as above
                self._tell(listener, batch, error)

    def _tell(self, listener: Journal, batch: Batch, error: Exception) -> None:
        if id(listener) not in self._failed:
            self._failed.add(id(listener))
            log.error(
                "a listener to answers failed; this is told once",
                listener=type(listener).__name__,
                model=batch.model.name,
                variant=batch.variant.name,
                **of_requests([row.request_id for row in batch.requests]),
                exc_info=error,
            )
