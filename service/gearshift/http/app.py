"""What is answered over HTTP. Nothing here knows where the metrics come from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gearshift import __version__

Exposition = Callable[[], tuple[bytes, str]]
"""Gives the body of a metrics page and its content type. Called on the HTTP thread."""

_Endpoint = Callable[[Request], Awaitable[Response]]

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer: none of it is to be kept, framed, guessed at or given scripts."""

PATHS = {
    "/metrics": "what is counted and measured, for Prometheus",
    "/metrics/triton": "the same under the metric names of NVIDIA Triton",
    "/healthz": "whether the process runs",
    "/readyz": "whether requests are answered now",
}


def create_app(
    exposition: Exposition, is_ready: Callable[[], bool], triton: Exposition | None = None
) -> Starlette:
    """The HTTP application.

    `exposition` renders /metrics, `triton` (where given) /metrics/triton; `is_ready` says
    whether inference requests are taken at this moment.
    """

    async def readyz(_: Request) -> Response:
        if is_ready():
            return PlainTextResponse("ready: requests are answered\n")
        return PlainTextResponse("not ready: starting or shutting down\n", status_code=503)

    endpoints: dict[str, _Endpoint] = {"/metrics": _metrics(exposition)}
    if triton is not None:
        endpoints["/metrics/triton"] = _metrics(triton)
    endpoints |= {"/healthz": _healthz, "/readyz": readyz}
    page = _page(list(endpoints))

    async def index(_: Request) -> Response:
        return HTMLResponse(page)

    app = Starlette(
        routes=[Route(path, endpoint) for path, endpoint in {"/": index, **endpoints}.items()],
        middleware=[Middleware(_Headers)],
        exception_handlers={HTTPException: _refused, Exception: _failed},
    )
    # A redirect would be made from the Host header, which anybody can write.
    app.router.redirect_slashes = False
    return app


def _metrics(exposition: Exposition) -> _Endpoint:
    async def metrics(_: Request) -> Response:
        # Rendered right here: this loop has nothing else to do, and serving has its own.
        body, content_type = exposition()
        return Response(body, headers={"Content-Type": content_type})

    return metrics


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _refused(request: Request, error: Exception) -> Response:
    """A path or method that is not there."""
    status = error.status_code if isinstance(error, HTTPException) else 400
    headers = error.headers if isinstance(error, HTTPException) else None
    if status == 404:
        text = f"nothing here; there are: /, {', '.join(PATHS)}\n"
    else:
        text = "only GET and HEAD are answered here\n"
    return PlainTextResponse(text, status_code=status, headers=headers)


async def _failed(request: Request, error: Exception) -> Response:
    """The server logs what broke; the caller learns no internals."""
    # This answer is made outside of all middleware.
    return PlainTextResponse(
        "something broke; the log says what\n", status_code=500, headers=HEADERS
    )


def _page(paths: list[str]) -> str:
    items = "\n".join(f'<li><a href="{path}">{path}</a>: {PATHS[path]}</li>' for path in paths)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>gearshift {__version__}</title>
</head>
<body>
<h1>gearshift {__version__}</h1>
<p>Serves each request from the most accurate model variant that its latency budget allows.
Inference is answered over gRPC, on a port of its own.</p>
<ul>
{items}
</ul>
</body>
</html>
"""


class _Headers:
    """Adds HEADERS to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)
