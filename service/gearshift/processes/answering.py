"""Answers what the processes ask their parent: one answer for all who ask at the same time."""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from collections.abc import Callable

import structlog

from gearshift.door import FULL_PAUSE
from gearshift.processes.member import Member

log = structlog.get_logger(__name__)


class Answering:
    """Of one kind of question. `make` gives the answer and may block: it is called on a thread,
    never twice at a time. `sign` is the byte that goes with the file."""

    def __init__(self, make: Callable[[], bytes], sign: bytes) -> None:
        self._make = make
        self._sign = sign
        self._asking: deque[Member] = deque()
        self._telling: asyncio.Task[None] | None = None

    def asked(self, member: Member, times: int) -> None:
        """The process has asked so many times."""
        self._asking.extend([member] * times)
        if self._asking and self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell())

    def close(self) -> None:
        """Nobody is answered any more."""
        if self._telling is not None:
            self._telling.cancel()

    async def _tell(self) -> None:
        """Answer those who asked with what was begun after they had asked."""
        while self._asking:
            asked, self._asking = self._asking, deque()
            try:
                answer = await asyncio.to_thread(self._make)
            except Exception:
                # No answer for those who wait now; that must not end who serves, nor the next one.
                log.exception("what all processes say cannot be put together")
                answer = b""
            with tempfile.TemporaryFile(buffering=0) as file:
                file.write(answer)
                for member in asked:
                    try:
                        member.tell(file.fileno(), self._sign)
                    except BlockingIOError:
                        self._asking.append(member)  # Each question needs its answer, in order.
                    except OSError:
                        pass  # It has ended.
            if self._asking:
                await asyncio.sleep(FULL_PAUSE)
        self._telling = None
