"""The pages of all processes, those that ended included. Asked for on the HTTP thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

log = structlog.get_logger(__name__)

PAGE_WITHIN = 3.0
"""Seconds that the processes together have for their pages."""


class Source(Protocol):
    """A process that can be asked for its page."""

    def ask(self, question: bytes) -> int: ...

    def answer(self, number: int, deadline: float) -> bytes: ...

    def close(self) -> None: ...


@dataclass(slots=True, eq=False)
class _Life:
    source: Source
    last: dict[bytes, bytes] = field(default_factory=dict)
    """The latest page by question."""
    ended: bool = False
    closed: bool = False


class Pages:
    """Remembers the last page of each process: one that does not answer in time is shown as it
    was, and what one that has ended had counted is not forgotten."""

    def __init__(self, within: float = PAGE_WITHIN) -> None:
        self._within = within
        self._lives: list[_Life] = []
        self._asking = threading.Lock()

    def began(self, source: Source) -> None:
        """A process was started."""
        self._lives.append(_Life(source))

    def ended(self, source: Source) -> None:
        """The process is gone. Its sockets are given back as soon as nobody is asking."""
        for life in self._lives:
            if life.source is source:
                life.ended = True
        if self._asking.acquire(blocking=False):
            try:
                self._tidy()
            finally:
                self._asking.release()

    def collect(self, question: bytes) -> tuple[list[bytes], list[bytes]]:
        """The pages of the living, and the last ones of those that have ended since this was
        asked before. Waits for at most `within` seconds."""
        with self._asking:
            lives = list(self._lives)
            living = [life for life in lives if not life.ended]
            gone = [life for life in lives if life.ended]
            self._refresh(living, question)
            pages = [life.last[question] for life in living if question in life.last]
            last = [life.last.pop(question) for life in gone if question in life.last]
            self._tidy()
        return pages, last

    def _refresh(self, living: Sequence[_Life], question: bytes) -> None:
        """Ask all first, so that they make their pages at the same time."""
        deadline = time.monotonic() + self._within
        asked = []
        for life in living:
            try:
                asked.append((life, life.source.ask(question)))
            except OSError:
                continue  # It is ending; what it said last stands.
        for life, number in asked:
            try:
                page = life.source.answer(number, deadline)
            except TimeoutError:
                log.warning("a process gave no metrics in time", seconds=self._within)
            except OSError:
                continue
            else:
                if page:
                    life.last[question] = page

    def _tidy(self) -> None:
        for life in self._lives:
            if life.ended and not life.closed:
                life.source.close()
                life.closed = True
        for life in list(self._lives):
            if life.ended and not life.last:
                # In place: another thread may be adding one at this moment.
                self._lives.remove(life)
