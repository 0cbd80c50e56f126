"""What is answered over HTTP. Nothing here knows where the figures come from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from importlib.resources import files

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gearshift import __version__
from gearshift.http.admission import Admission, Named, is_protocol
from gearshift.ports import Access, Audit

Exposition = Callable[[], tuple[bytes, str]]
"""Gives the body of a metrics page and its content type. Called on the HTTP thread."""

Negotiated = Callable[[str], tuple[bytes, str]]
"""The same, of the formats that an Accept header takes."""

Board = Callable[[], bytes]
"""Gives everything that the page shows, as JSON. Called on any thread, one at a time."""

Explain = Callable[[Mapping[str, str]], Awaitable[tuple[int, bytes]]]
"""From a query to an HTTP status and JSON: what would be chosen and why."""

_Endpoint = Callable[[Request], Awaitable[Response]]

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer: none of it is to be kept, framed or guessed at, and nothing runs, loads or
is sent but to and from this server."""

ONLY_TLS = {"Strict-Transport-Security": "max-age=31536000"}
"""And where TLS is spoken: browsers remember for a year not to come without it."""

FRESH = 0.5
"""Seconds that one board serves for all who look."""

PAUSE = 3
"""Times as long as a page of metrics took to make until the next is begun."""

PAGE = "/page/"
"""Where the files of the page are, as named in its own folder."""

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

PATHS = (
    "/",
    "/frontier.json",
    "/explain",
    "/metrics",
    "/metrics/triton",
    "/healthz",
    "/readyz",
)


def create_app(
    *,
    exposition: Negotiated,
    triton: Exposition,
    is_ready: Callable[[], bool],
    is_alive: Callable[[], bool] = lambda: True,
    board: Board,
    explain: Explain,
    access: Access | None = None,
    audit: Audit | None = None,
    names: Collection[str] | None = None,
    tls: bool = False,
    rest: Sequence[Route] = (),
) -> Starlette:
    """The HTTP application.

    `exposition` renders /metrics, `triton` /metrics/triton; `is_ready` says whether inference
    requests are taken at this moment, `is_alive` whether this process is worth keeping; `board`
    and `explain` are what the page asks for. With `access` it is asked who may look, and `audit`
    takes down who may not. With `names`, only who calls by localhost, an address or one of them is
    answered. `tls` says whether it is spoken. `rest` are the routes of the inference protocol
    (`gearshift.http.rest`), which asks by itself who may call them.
    """
    headers = HEADERS | ONLY_TLS if tls else HEADERS

    async def readyz(_: Request) -> Response:
        if is_ready():
            return PlainTextResponse("ready: requests are answered\n")
        return PlainTextResponse("not ready: starting or shutting down\n", status_code=503)

    async def healthz(_: Request) -> Response:
        if is_alive():
            return PlainTextResponse("ok\n")
        return PlainTextResponse("hangs: start this process anew\n", status_code=503)

    async def explained(request: Request) -> Response:
        status, body = await explain(dict(request.query_params))
        return Response(body, status, media_type="application/json")

    endpoints: dict[str, _Endpoint] = {
        "/frontier.json": _Shared(board).answer,
        "/explain": explained,
        "/metrics": _Metrics(exposition).answer,
        "/metrics/triton": _Metrics(lambda _: triton()).answer,
        "/healthz": healthz,
        "/readyz": readyz,
    }
    for name, body, media_type in _assets():
        path = "/" if name == "index.html" else PAGE + name
        endpoints[path] = _file(body, media_type)
    middleware = [Middleware(_Headers, headers=headers)]
    if names is not None:
        middleware.append(Middleware(Named, names=names))
    if access is not None:
        middleware.append(Middleware(Admission, access=access, audit=audit))
    app = Starlette(
        routes=[*(Route(path, endpoint) for path, endpoint in endpoints.items()), *rest],
        middleware=middleware,
        exception_handlers={HTTPException: _refused, Exception: _failed},
    )
    # A redirect would be made from the Host header, which anybody can write.
    app.router.redirect_slashes = False
    return app


class _Shared:
    """One document for all who ask at about the same time: many may look at a page."""

    def __init__(self, make: Board) -> None:
        self._make = make
        self._making = asyncio.Lock()
        self._made_at = -FRESH
        self._body = b""

    async def answer(self, _: Request) -> Response:
        async with self._making:
            if time.monotonic() - self._made_at >= FRESH:
                self._body = await asyncio.to_thread(self._make)
                self._made_at = time.monotonic()
        return Response(self._body, media_type="application/json")


def _assets() -> list[tuple[str, bytes, str]]:
    """The page's own files: name, content, media type."""
    found = []
    for file in files("gearshift.http").joinpath("page").iterdir():
        media_type = TYPES[file.name.rpartition(".")[2]]
        body = file.read_bytes()
        if file.name == "index.html":
            body = body.replace(b"{version}", __version__.encode())
        found.append((file.name, body, media_type))
    return found


def _file(body: bytes, media_type: str) -> _Endpoint:
    async def file(_: Request) -> Response:
        return Response(body, media_type=media_type)

    return file


class _Metrics:
    """A page of metrics, made once for all who have asked for it before it is begun, and in no more
    than a part of the time: it is made on a processor that serves, too."""

    def __init__(self, exposition: Negotiated) -> None:
        self._exposition = exposition
        self._making = asyncio.Lock()
        self._next: dict[str, asyncio.Task[tuple[bytes, str]]] = {}
        self._not_before = 0.0

    async def answer(self, request: Request) -> Response:
        accept = ",".join(request.headers.getlist("accept"))
        made = self._next.get(accept)
        if made is None:
            made = self._next[accept] = asyncio.create_task(self._make(accept))
        body, content_type = await asyncio.shield(made)
        return Response(body, headers={"Content-Type": content_type, "Vary": "Accept"})

    async def _make(self, accept: str) -> tuple[bytes, str]:
        async with self._making:
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            # Who asks from now on wants to know what happens from now on.
            del self._next[accept]
            begun = time.monotonic()
            try:
                # Right here: this loop has nothing else to do, and serving has its own.
                return self._exposition(accept)
            finally:
                now = time.monotonic()
                self._not_before = now + PAUSE * (now - begun)


async def _refused(request: Request, error: Exception) -> Response:
    """A path or method that is not there."""
    status = error.status_code if isinstance(error, HTTPException) else 400
    headers = error.headers if isinstance(error, HTTPException) else None
    if is_protocol(request.url.path):
        text = f"no {request.method} {request.url.path[:200]} here"
        return JSONResponse({"error": text}, status_code=status, headers=headers)
    if status == 404:
        text = f"nothing here; there are: {', '.join(PATHS)}\n"
    else:
        text = "only GET and HEAD are answered here\n"
    return PlainTextResponse(text, status_code=status, headers=headers)


async def _failed(request: Request, error: Exception) -> Response:
    """The server logs what broke; the caller learns no internals."""
    # This answer is made outside of all middleware.
    return PlainTextResponse(
        "something broke; the log says what\n", status_code=500, headers=HEADERS
    )


class _Headers:
    """Adds `headers` to every answer."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._app(scope, receive, send_with_headers)
