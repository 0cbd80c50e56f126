"""Trying again when the database fails: ever later, told once a minute, and once it works again."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from gearshift.errors import ConfigurationInvalid

log = structlog.get_logger(__name__)

BROKEN = (SQLAlchemyError, ConfigurationInvalid)
"""What a database raises that is away, full, locked, or of another version."""

LONGEST = 60.0
TOLD_EVERY = 60.0
"""Seconds."""


class Retry:
    """`what` says what is not done while the database fails; `clock` is any that goes forward."""

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._clock = clock
        self._failures = 0
        self._told_at: float | None = None

    @property
    def pause(self) -> float:
        """Seconds to wait before the next try; 0 while all is well."""
        return float(min(LONGEST, 2 ** (self._failures - 1))) if self._failures else 0.0

    def failed(self, error: BaseException) -> None:
        self._failures = min(self._failures + 1, 16)
        now = self._clock()
        if self._told_at is None or now - self._told_at >= TOLD_EVERY:
            self._told_at = now
            # The driver's own words: SQLAlchemy would add the statement and its parameters.
            reason = str(getattr(error, "orig", None) or error)
            log.warning(f"{self._what}: the feedback database fails", reason=reason)

    def worked(self) -> None:
        if self._failures:
            log.info(f"{self._what}: no more, the feedback database works again")
        self._failures = 0
        self._told_at = None
