"""Calls of every method over a whole server: what comes in is any bytes, and what goes out is an
answer or a status of the table; afterwards it serves as before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import grpc
import hpack
import structlog
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2 as pb

from engine_bench import Bench
from feedback_place import Place
from fuzz.figures import scratch
from fuzz.requests import message
from fuzz.target import Feed, Target, require
from gearshift.core.reports import Report, Result, Ruling
from gearshift.errors import ENDINGS
from gearshift.http2 import frames
from gearshift.rpc import make_server
from gearshift.rpc.server import CONTROL, RpcServer
from gearshift.v1 import gearshift_pb2
from http2_pair import GREETING, HEADERS, Wire, raw
from virtual import VirtualLoop

NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
EXPECTED = {"OK", "UNIMPLEMENTED", *(ending.status for ending in ENDINGS.values())}
"""UNIMPLEMENTED is the protocol's own, for methods and compressions that are not served."""

SERVICES = {
    "inference.GRPCInferenceService": pb,
    CONTROL: gearshift_pb2,
    "grpc.health.v1.Health": health_pb2,
    "grpc.reflection.v1alpha.ServerReflection": reflection_pb2,
}
METHODS: Sequence[tuple[str, type]] = [
    (f"/{service}/{method.name}", method.input_type._concrete_class)
    for service, module in SERVICES.items()
    for method in module.DESCRIPTOR.services_by_name[service.rpartition(".")[2]].methods
]
"""Every path that is served, with the class of its requests."""

COMPRESSED, OWN_PREFIX = 1, 2
"""Bits of an input's second byte: the call says gzip; the message's prefix is in the input, too."""

TURNS = 40
ASK_EVERY = 64


class _Reports:
    """Feedback without threads."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def report(self, reports: Sequence[Report]) -> Sequence[Result]:
        return self._place.rule(list(reports))


class _Unexpected:
    """Every error in the log: what a caller hears only a reference of."""

    def __init__(self) -> None:
        self.errors: list = []

    def __call__(self, logger, method, event):
        if method in ("error", "critical", "exception"):
            self.errors.append(event)
        raise structlog.DropEvent


class _Scene:
    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.unexpected = _Unexpected()
        structlog.configure(processors=[self.unexpected], cache_logger_on_first_use=False)
        place = Place(f"sqlite:///{scratch('feedback.sqlite3')}")
        self.server: RpcServer = self.loop.run_until_complete(self._start(place))
        self.fed = 0

    async def _start(self, place: Place) -> RpcServer:
        self.bench = Bench()
        return await make_server(
            self.bench.engine, shared_memory=True, feedback=_Reports(place), frontier=None
        )

    def feed(self, data: bytes) -> None:
        if len(data) < 2:
            return
        path, _ = METHODS[data[0] % len(METHODS)]
        flags, body = data[1], data[2:]
        if not flags & OWN_PREFIX:
            body = _framed(body)
        status = self.loop.run_until_complete(self.call(path, flags & COMPRESSED, body))
        require(status in EXPECTED, f"{path} ends with {status}")
        require(not self.unexpected.errors, f"{path}: {self.unexpected.errors}")
        self.fed += 1
        if self.fed % ASK_EVERY == 0:
            good = _framed(message().SerializeToString())
            path = "/inference.GRPCInferenceService/ModelInfer"
            status = self.loop.run_until_complete(self.call(path, 0, good))
            require(status == "OK", f"a good request ends with {status} after these")
            self.bench.telemetry.__init__()  # it keeps every event

    async def call(self, path: str, compressed: int, body: bytes) -> str:
        """The status in the end; OK for a stream that only its caller ends."""
        wire = Wire()
        connection = self.server._connect(lambda: None)
        connection.connection_made(wire)
        fields = [(name, path if name == ":path" else value) for name, value in HEADERS]
        if compressed:
            fields.append(("grpc-encoding", "gzip"))
        block = hpack.Encoder().encode(fields)
        connection.data_received(
            GREETING
            + raw(frames.HEADERS, frames.END_HEADERS, 1, block)
            + raw(frames.DATA, frames.END_STREAM, 1, body)
        )
        for turn in range(TURNS):
            await asyncio.sleep(0 if turn < TURNS // 2 else 0.05)
            status = _status(bytes(wire.sent))
            if status is not None:
                break
        connection.connection_lost(None)
        await asyncio.sleep(0)
        return status or "OK"


def _framed(body: bytes) -> bytes:
    return b"\x00" + len(body).to_bytes(4, "big") + body


def _status(sent: bytes) -> str | None:
    """The name of grpc-status in what a server sent, None if there is none yet."""
    decoder, at = hpack.Decoder(), 0
    while len(sent) - at >= frames.HEAD_SIZE:
        high, low, kind, _, _ = frames.HEAD.unpack_from(sent, at)
        begin = at + frames.HEAD_SIZE
        at = begin + (high << 8 | low)
        if kind == frames.RST_STREAM:
            return "OK"  # the wire's own word, of which `http2-frames` sees all
        if kind == frames.HEADERS:
            told = dict(decoder.decode(sent[begin:at]))
            if "grpc-status" in told:
                return NAMES[int(told["grpc-status"])]
    return None


def _rpc() -> Feed:
    return _Scene().feed


def _rpc_seeds() -> list[bytes]:
    """One of each method, empty; and some that say something."""
    found = [bytes((at, 0)) for at in range(len(METHODS))]
    said = {
        "ModelInfer": message(),
        "ModelStreamInfer": message(),
        "ModelReady": pb.ModelReadyRequest(name="m", version="1"),
        "ModelMetadata": pb.ModelMetadataRequest(name="m"),
        "ModelConfig": pb.ModelConfigRequest(name="m", version="2"),
        "ModelStatistics": pb.ModelStatisticsRequest(name="m"),
        "RepositoryIndex": pb.RepositoryIndexRequest(repository_name="r", ready=True),
        "RepositoryModelLoad": pb.RepositoryModelLoadRequest(model_name="m"),
        "SystemSharedMemoryRegister": pb.SystemSharedMemoryRegisterRequest(
            name="r", key="/none", byte_size=24
        ),
        "SystemSharedMemoryStatus": pb.SystemSharedMemoryStatusRequest(name="r"),
        "Explain": gearshift_pb2.ExplainRequest(model="m"),
        "Feedback": gearshift_pb2.FeedbackRequest(
            reports=[gearshift_pb2.Report(model="kinds", request_id="a", labels=[1])]
        ),
    }
    for at, (path, _) in enumerate(METHODS):
        told = said.get(path.rpartition("/")[2])
        if told is not None:
            content = told.SerializeToString()
            found += [bytes((at, 0)) + content, bytes((at, OWN_PREFIX)) + _framed(content)]
    return found


def _feedback() -> Feed:
    """Reports against a store: every one is ruled on, whatever it says, and counted once."""
    place = Place(f"sqlite:///{scratch('feedback.sqlite3')}")
    place.answer("kinds", [0, 1, 2], ["a", "b", "c"])
    place.answer("risk", [0.5], ["d"])
    counted: set = set()

    def feed(data: bytes) -> None:
        try:
            told = json.loads(data)
            reports = [
                Report(
                    str(each["model"]),
                    str(each["id"]).encode(),
                    tuple(int(label) for label in each["labels"]),
                    float(each.get("weight", 1.0)),
                )
                for each in told
            ]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return
        results = place.rule(reports)
        require(len(results) == len(reports), "not every report is ruled on")
        for report, result in zip(reports, results, strict=True):
            if result.ruling is Ruling.COUNTED:
                key = (report.model, report.request_id)
                require(key not in counted, f"{key} is counted twice")
                counted.add(key)

    return feed


def _feedback_seeds() -> list[bytes]:
    report = {"model": "kinds", "id": "a", "labels": [1], "weight": 2.0}
    return [
        json.dumps(each).encode()
        for each in (
            [report],
            [report, report | {"labels": [2]}, report | {"id": "zz"}],
            [{"model": "risk", "id": "d", "labels": [1, 0]}, report | {"weight": 1e300}],
            [{"model": "faces", "id": "", "labels": []}, report | {"labels": [2**70]}],
        )
    ]


TARGETS = (
    Target("rpc-calls", _rpc, _rpc_seeds, 1024, (b"kinds", b"latency_budget_ms", b"/dev/shm")),
    Target(
        "feedback-reports", _feedback, _feedback_seeds, 512, (b'"labels"', b'"kinds"', b"1e400")
    ),
)
