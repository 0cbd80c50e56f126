"""Who may do what, who did it, which models are served, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from gearshift.core.observability import LogValue, LogValues, TraceValues
from gearshift.core.rights import Rights
from gearshift.errors import RequestError


class Repository(Protocol):
    """Loads and unloads models while others are served. `who` asks stands in the audit log."""

    async def load(self, model: str, who: str) -> None:
        """Serve this model as it is on disk now. ModelNotFound if it has no folder, LoadFailed with
        every reason if it does not load; then nothing has changed. Overloaded if too many such
        orders wait, NotReady while starting or shutting down."""

    async def unload(self, model: str, who: str) -> None:
        """Serve this model no more; one that is not served stays so. Errors as above."""

    async def unserved(self) -> Mapping[str, str]:
        """The folders that are there and not served, and why not."""


class Observing(Protocol):
    """What is logged and traced, and changes to that, of all processes of this server. What is told
    is what holds then; without changes it is only told. InvalidInput or NotServed for what cannot
    be set, and nothing has changed then; NotReady if a process has not followed in time."""

    async def logs(self, changes: LogValues) -> Mapping[str, LogValue]: ...

    async def traces(self, changes: TraceValues, model: str = "") -> Mapping[str, Sequence[str]]:
        """Of this model, or of all that have no settings of their own."""


class Access(Protocol):
    """Says who a caller is and what it may do. From any thread; never waits for anything."""

    def admit(self, authorization: str, certificate: Sequence[str]) -> Rights:
        """The rights of whoever shows this `authorization` (the header, empty for none), or else
        the names of a client certificate that was verified. Unauthenticated for who is nobody
        here, NotReady while that cannot be known."""
        ...


class Audit(Protocol):
    """Takes down who did what. From any thread; a line that cannot be written is no error."""

    def acted(self, client: str, peer: str, action: str, target: str, result: str) -> None:
        """A control action and how it ended (`OK` or the name of a status)."""
        ...

    def denied(self, client: str, peer: str, action: str, error: RequestError) -> None:
        """A caller was turned away: Unauthenticated or Forbidden."""
        ...
