"""A gRPC server that answers for the real one: what the page, `top` and Explain ask is there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from gearshift.v1 import gearshift_pb2 as pb
from gearshift.v1 import gearshift_pb2_grpc


class FakeGearshift(gearshift_pb2_grpc.GearshiftServicer):
    """Explains with `answer`, or fails with `error` (a status and a text); tells `looks`."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answer = pb.ExplainResponse()
        self.error: tuple[grpc.StatusCode, str] | None = None
        self.looks: list[Any] = []
        self.port = 0
        self.slow = 0.0

    def Explain(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.asked.append(request)
        time.sleep(self.slow)
        if self.error is not None:
            context.abort(*self.error)
        return self.answer

    def WatchFrontier(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self.asked.append(request)
        yield from self.looks
        if self.error is not None:
            context.abort(*self.error)


@contextmanager
def fake_gearshift() -> Iterator[FakeGearshift]:
    """On a free port of this machine."""
    fake = FakeGearshift()
    server = grpc.server(ThreadPoolExecutor(2))
    gearshift_pb2_grpc.add_GearshiftServicer_to_server(fake, server)
    fake.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield fake
    finally:
        server.stop(0).wait(5)
