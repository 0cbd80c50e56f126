"""Who calls on a connection, and whether the call may be made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gearshift.core.rights import EVERYTHING, GRANTED, NOTHING, Group, Rights
from gearshift.errors import Forbidden, RequestError, Unauthenticated
from gearshift.http2 import Connection
from gearshift.ports import Access, Audit
from gearshift.rpc.inside import ON_BEHALF, OnBehalf
from gearshift.rpc.shapes import Shapes
from gearshift.rpc.wire import Call

Names = Callable[[Mapping[str, Any] | None], tuple[str, ...]]
"""The names in a verified certificate, as `ssl.SSLSocket.getpeercert` describes it."""


def no_names(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Where nobody is asked for a certificate."""
    return ()


def address_of(peer: Any) -> str:
    """Where a connection comes from, without the port; "" for callers that have no address."""
    return str(peer[0]) if isinstance(peer, tuple) else ""


class Caller:
    """What is known of one connection's other end: address, verified names, shapes of requests.
    One that is `inside` is this very program."""

    __slots__ = ("_read", "inside", "peer", "rights", "shapes")

    def __init__(self, *, inside: bool = False) -> None:
        self.shapes = Shapes()
        self.inside = inside
        self.peer = ""
        self._read: Callable[[], tuple[str, ...]] = tuple
        self.rights = EVERYTHING
        """What it may do where there is no access control."""

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the certificate that was verified, while it holds."""
        return self._read()

    def connected(self, connection: Connection[Any], names: Names) -> None:
        """The connection is there; `names` reads those of a certificate."""
        self.peer = address_of(connection.about("peername"))
        certificate = connection.about("peercert")
        if certificate:
            self._read = partial(names, certificate)
            for name in self.names[:1]:
                self.rights = Rights(name, GRANTED, ("*",))


class Gate:
    """Lets calls in by what their callers may do."""

    def __init__(self, access: Access | None, audit: Audit | None) -> None:
        self._access = access
        self._audit = audit

    def rights(self, caller: Caller, call: Call, group: Group) -> Rights:
        """Those of whoever makes this call. Unauthenticated, Forbidden or NotReady if it may
        not."""
        behalf = on_behalf(caller, call)
        if self._access is None or (caller.inside and behalf is None):
            return caller.rights
        if group is Group.OPEN:
            return NOTHING
        peer, names = (caller.peer, caller.names) if behalf is None else (behalf.peer, behalf.names)
        rights = NOTHING
        try:
            rights = self._access.admit(call.authorization, tuple(names))
            rights.need(group)
        except RequestError as error:
            self._denied(rights, peer, call.path, error)
            raise
        if rights.every_model:
            return rights
        return rights.telling(partial(self._denied, rights, peer, call.path))

    def _denied(self, rights: Rights, peer: str, path: str, error: RequestError) -> None:
        """Take down that a call was turned away."""
        if self._audit is not None and isinstance(error, Unauthenticated | Forbidden):
            self._audit.denied(rights.client, peer, path, error)

    def acted(self, rights: Rights, caller: Caller, call: Call, target: str, result: str) -> None:
        """Take down how a control action ended."""
        if self._audit is not None:
            behalf = on_behalf(caller, call)
            peer = caller.peer if behalf is None else behalf.peer
            self._audit.acted(rights.client, peer, call.path, target, result)


def on_behalf(caller: Caller, call: Call) -> OnBehalf | None:
    """For whom a call from inside is made, if for anybody."""
    if not caller.inside:
        return None
    for name, value in call.metadata:
        if name == ON_BEHALF and isinstance(value, str):
            return OnBehalf.told(value)
    return None
