"""The HTTP server in its own thread with its own loop.

Rendering /metrics takes milliseconds with many series; on the loop that serves inference
they would be somebody's budget.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from gearshift.core.limits import HttpLimits
from gearshift.errors import CannotListen, ConfigurationInvalid
from gearshift.http.guard import Guests
from gearshift.http.protocol import Names, speaking

BACKLOG = 128
"""Connections that wait to be accepted. Where no file can be opened any more, asyncio tries and
logs as many times each second."""

STARTED_WITHIN = 10.0
"""Seconds until the thread must serve."""

STOPPED_WITHIN = 5.0
"""Seconds that open connections get at the end."""


def _no_names(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Nobody is asked for a certificate."""
    return ()


class HttpServer:
    """Binds at once, serves between start() and stop(), once."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        limits: HttpLimits | None = None,
        tls: ssl.SSLContext | None = None,
        names: Names = _no_names,
    ) -> None:
        """Bind `host` and `port` (0: any free one). ConfigurationInvalid if that fails. `names`
        reads those of a client's certificate."""
        limits = limits or HttpLimits()
        self._guests = guests = Guests(limits)
        self.host = host
        scheme = "http" if tls is None else "https"
        self._socket = _bound(host, port)
        self.port = int(self._socket.getsockname()[1])
        self.url = (
            f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"
        )
        config = uvicorn.Config(
            app,
            http=speaking(names, guests),
            h11_max_incomplete_event_size=limits.head_bytes,
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="asyncio",
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
            backlog=BACKLOG,
        )
        config.load()
        # Ours: uvicorn would make one that cannot be given another certificate.
        config.ssl = tls
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="gearshift-http", daemon=True)

    @property
    def connections(self) -> int:
        """Open ones."""
        return len(self._guests.there)

    @property
    def refused(self) -> int:
        """Connections that were closed to make room for others."""
        return self._guests.refused

    def start(self) -> None:
        """Serve from now on; returns when requests are answered.

        ConfigurationInvalid if that is not so within STARTED_WITHIN seconds.
        """
        self._thread.start()
        deadline = time.monotonic() + STARTED_WITHIN
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise ConfigurationInvalid(
                    f"the HTTP server on {self.host}:{self.port} did not start; see the log"
                )
            time.sleep(0.002)

    def stop(self) -> None:
        """Stop and give the port back; open connections get up to STOPPED_WITHIN seconds."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOPPED_WITHIN)
        self._socket.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])


def _bound(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise ConfigurationInvalid(
            f"cannot listen on {host}:{port} for HTTP: a port is a number from 0 to 65535;"
            " choose one with --http-port"
        )
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise CannotListen(host, port, "HTTP", error) from error
