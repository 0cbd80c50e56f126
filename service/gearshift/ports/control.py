"""Who may do what, who did it, and which models are served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

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
