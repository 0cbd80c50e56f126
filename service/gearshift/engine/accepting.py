"""Which requests are taken in: all, or, once a drain has begun, only those that were foreseen."""

from __future__ import annotations

import asyncio
from enum import IntEnum

from gearshift.errors import NotReady

NOT_READY = "the server is starting or shutting down; try again shortly"


class _Takes(IntEnum):
    NOTHING = 0
    FORESEEN = 1
    ALL = 2


class Accepting:
    """Used on one event loop."""

    def __init__(self) -> None:
        self._takes = _Takes.NOTHING
        self._foreseen = 0
        self._none = asyncio.Event()
        self._none.set()

    @property
    def all(self) -> bool:
        return self._takes is _Takes.ALL

    def begin(self) -> None:
        """Take all from now on."""
        self._takes = _Takes.ALL

    def drain(self) -> None:
        """Take only who is foreseen from now on."""
        self._takes = _Takes.FORESEEN

    def end(self) -> None:
        """Take nobody any more."""
        self._takes = _Takes.NOTHING

    def check(self, *, foreseen: bool = False) -> None:
        """Raises NotReady if such a request is not taken."""
        if self._takes < (_Takes.FORESEEN if foreseen else _Takes.ALL):
            raise NotReady(NOT_READY)

    def foresee(self) -> None:
        """One will come later, or will not: that is for `comes` to say, once."""
        self._foreseen += 1
        self._none.clear()

    def comes(self) -> None:
        """It comes in this turn of the loop, or never."""
        self._foreseen -= 1
        if not self._foreseen:
            self._none.set()

    async def nobody_foreseen(self) -> None:
        """Until all have come."""
        await self._none.wait()
