"""What was done to the server, and who was turned away: one JSON line each.

A line tells `time` (UTC), `client`, `peer` (address), `action`, `target` and `result`. To a file,
which may be moved away at any time: the next line opens a new one. Without a file, or while it
cannot be written, to the log.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog

from gearshift.errors import ConfigurationInvalid, RequestError, Unauthenticated

log = structlog.get_logger(__name__)

BURST = 20
PER_SECOND = 1.0
"""Lines of callers that were turned away: so many at once, and so many a second after that. The
next one tells how many were left out."""

LONGEST = 256
"""Characters of a text that comes from a caller."""


class AuditLog:
    """Fills `ports.Audit`. `clock` is monotonic, in seconds; `now` is the time of day."""

    def __init__(
        self,
        path: Path | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """ConfigurationInvalid if the file cannot be written now."""
        self._path = path
        self._clock = clock
        self._now = now
        self._writing = threading.Lock()
        self._file: int | None = None
        self._failing = False
        self._left = float(BURST)
        self._since = clock()
        self._silenced = 0
        self.denials = {"unauthenticated": 0, "forbidden": 0}
        """How many calls were turned away, by reason."""
        if path is not None:
            try:
                self._reopen(path)
            except OSError as error:
                raise ConfigurationInvalid(f"audit log {path}: {error.strerror}") from None

    def acted(self, client: str, peer: str, action: str, target: str, result: str) -> None:
        """A control action and how it ended (`OK` or the name of a status)."""
        self._write(client, peer, action, target, result, {})

    def denied(self, client: str, peer: str, action: str, error: RequestError) -> None:
        """A caller was turned away: counted always, told while there are not too many."""
        unknown = isinstance(error, Unauthenticated)
        with self._writing:
            self.denials["unauthenticated" if unknown else "forbidden"] += 1
            now = self._clock()
            self._left = min(float(BURST), self._left + (now - self._since) * PER_SECOND)
            self._since = now
            if self._left < 1.0:
                self._silenced += 1
                return
            self._left -= 1.0
            silenced, self._silenced = self._silenced, 0
        more = {"not_told_before": silenced} if silenced else {}
        result = "UNAUTHENTICATED" if unknown else "PERMISSION_DENIED"
        self._write(client, peer, action, "", result, {"reason": str(error)[:LONGEST], **more})

    def close(self) -> None:
        """Give the file back."""
        with self._writing:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _write(
        self,
        client: str,
        peer: str,
        action: str,
        target: str,
        result: str,
        more: dict[str, str | int],
    ) -> None:
        told = {
            "client": client,
            "peer": peer,
            "action": action[:LONGEST],
            "target": target[:LONGEST],
            "result": result,
            **more,
        }
        if self._path is None or not self._written(self._path, told):
            log.info("audit", **told)

    def _written(self, path: Path, told: dict[str, str | int]) -> bool:
        line = json.dumps({"time": self._now().isoformat(timespec="milliseconds"), **told}) + "\n"
        data = line.encode()
        with self._writing:
            try:
                if self._file is None or _moved(path, self._file):
                    self._reopen(path)
                assert self._file is not None
                # In one piece: several processes may write to the same file.
                if os.write(self._file, data) != len(data):
                    raise OSError(None, "no room for a whole line")
            except OSError as error:
                if not self._failing:
                    log.error(
                        "the audit log cannot be written; what it would say is logged",
                        path=str(path),
                        reason=error.strerror or str(error),
                    )
                self._failing = True
                return False
            self._failing = False
        return True

    def _reopen(self, path: Path) -> None:
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if self._file is not None:
            os.close(self._file)
        self._file = opened


def _moved(path: Path, file: int) -> bool:
    """Whether another file, or none, has the name now."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return True
    here = os.fstat(file)
    return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)
