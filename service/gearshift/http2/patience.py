"""How much a peer may do that costs work and brings nothing: second by second, by connection.

After the floods that HTTP/2 is known for: rapid reset (CVE-2023-44487), streams that the peer makes
this side reset (CVE-2025-8671), PING, SETTINGS, PRIORITY and empty frames (CVE-2019-9512 to
CVE-2019-9518).
"""

from __future__ import annotations

SPAN = 1.0
"""Seconds in which is counted."""


class Patience:
    """Counts of one connection. `now` in seconds, from a clock that goes forward."""

    __slots__ = ("_began", "_broken", "_idle", "_since")

    def __init__(self) -> None:
        self._since = 0.0
        self._idle = 0
        self._broken = 0
        self._began = 0

    def idle(self, now: float, most: int, cost: int = 1) -> bool:
        """A frame that says nothing; False if there are more than `most` in this second."""
        self._look(now)
        self._idle += cost
        return self._idle <= most

    def broken(self, now: float, most: int, begun: int) -> bool:
        """A stream that the peer has cancelled or broken, of `begun` in the connection's life;
        False if that are more than `most` in this second, beyond as many as half of those begun
        since the first of them: of callers in an overload some are answered."""
        self._look(now)
        if not self._broken:
            self._began = begun
        self._broken += 1
        return 2 * (self._broken - most) <= begun - self._began

    def _look(self, now: float) -> None:
        if now - self._since >= SPAN:
            self._since = now
            self._idle = self._broken = 0
