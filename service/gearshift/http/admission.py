"""Who may look: the same question as on the gRPC port, and one about the name that was called."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gearshift.core.rights import NOTHING, Group, Rights
from gearshift.errors import Forbidden, NotReady, RequestError, Unauthenticated
from gearshift.http.protocol import NAMES
from gearshift.ports import Access, Audit

OPEN = frozenset(("/healthz", "/readyz"))
"""Probes have no credentials."""


def is_protocol(path: str) -> bool:
    """Whether a path is one of the inference protocol's, whose calls are let in where they go."""
    return path == "/v2" or path.startswith("/v2/")


CHALLENGE = 'Basic realm="gearshift", charset="UTF-8", Bearer'
"""Browsers ask people for a name and a password: the client's name and its token."""


class Admission:
    """Lets through to the paths that are not OPEN who may observe all models: the page and the
    metrics show them all."""

    def __init__(self, app: ASGIApp, access: Access, audit: Audit | None) -> None:
        self._app = app
        self._access = access
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and path not in OPEN and not is_protocol(path):
            request = Request(scope)
            rights = NOTHING
            try:
                rights = self._admitted(request)
                rights.need(Group.OBSERVE)
                if not rights.every_model:
                    raise Forbidden(
                        f"client {rights.client!r} may not look here, where all models are shown;"
                        f" it needs the right 'observe' for the models '*'"
                    )
            except RequestError as error:
                self._take_down(rights, request, error)
                await _refused(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admitted(self, request: Request) -> Rights:
        # Of two headers, whose would it be? Together they are nobody's.
        authorization = ", ".join(request.headers.getlist("authorization"))
        return self._access.admit(authorization, request.scope.get(NAMES, ()))

    def _take_down(self, rights: Rights, request: Request, error: RequestError) -> None:
        if self._audit is not None and isinstance(error, Unauthenticated | Forbidden):
            peer = request.client.host if request.client is not None else ""
            # Not the query, which is anybody's text.
            self._audit.denied(rights.client, peer, f"GET {request.url.path}", error)


def _refused(error: RequestError) -> Response:
    text = f"{error}\n"
    if isinstance(error, Unauthenticated):
        return PlainTextResponse(text, 401, {"WWW-Authenticate": CHALLENGE})
    return PlainTextResponse(text, 503 if isinstance(error, NotReady) else 403)


class Named:
    """Answers only who called this machine by a name that is its own, but for probes.

    A page from elsewhere can let its own name point to this machine, and then read what is served
    here as if it came from its own server (DNS rebinding). An address cannot be pointed anywhere.
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names) | {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN:
            name = host_of(Request(scope).headers.get("host", ""))
            if name not in self._names and not _is_address(name):
                text = (
                    "this server is called localhost, or by its address; the setting http_hosts"
                    " has other names, as of a proxy before it\n"
                )
                await PlainTextResponse(text, 421)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def host_of(header: str) -> str:
    """The name in a Host header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
