"""HTTP before a served engine, and a request for its model."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from gearshift.app.inside import Inside, dialling, giving
from gearshift.http import HttpServer, create_app
from gearshift.http.rest import rest_routes
from grpc_bench import GrpcBench

MOST = 4 * 2**20
ROWS = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
RAW = np.array(ROWS, np.float32).tobytes()
SUMS = [6.0, 15.0]


async def explained(query: Mapping[str, str]) -> tuple[int, bytes]:
    return 200, b"{}"


def opened(inside: Inside, most: int = MOST) -> HttpServer:
    """HTTP with the protocol, and nothing worth seeing beside it."""
    app = create_app(
        exposition=lambda accept: (b"", "text/plain"),
        triton=lambda: (b"", "text/plain"),
        is_ready=lambda: True,
        board=lambda: b"{}",
        explain=explained,
        rest=rest_routes(inside, most),
    )
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    return server


class Site:
    """HTTP before a bench."""

    def __init__(self, bench: GrpcBench, *, listens: bool = True, most: int = MOST) -> None:
        self.bench = bench
        inside = Inside()
        if listens:
            inside.listening(dialling(giving(bench.server), bench.loop))
        self.server = opened(inside, most)

    def ask(
        self, path: str, body: Any = None, method: str = "", **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """`body` as JSON, unless it is bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method or ("GET" if body is None else "POST"), path, body, named)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer, content

    def told(self, path: str, body: Any = None, **options: str) -> tuple[int, Any]:
        answer, content = self.ask(path, body, **options)
        return answer.status, json.loads(content) if content else None


def asked(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": ROWS}
    return {"id": "7", "inputs": [tensor], **changes}


INFER = "/v2/models/m/infer"
