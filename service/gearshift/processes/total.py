"""What all processes have counted, added up: one answer, whichever process is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gearshift.processes.pages import Pages


class Total:
    """Over the answers to one question. `add` puts several of them together; what a process had
    told that has ended stays in the sum."""

    def __init__(
        self, pages: Pages, question: bytes, add: Callable[[Iterable[bytes]], bytes]
    ) -> None:
        self._pages = pages
        self._question = question
        self._add = add
        self._past = b""

    def collect(self) -> bytes:
        """The sum of now. Blocks as long as the pages may take; not to be called side by side."""
        living, ended = self._pages.collect(self._question)
        if ended:
            self._past = self._add([self._past, *ended])
        return self._add([self._past, *living])
