"""Quotas and retries as callers meet them."""

from __future__ import annotations

import math

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from gearshift.core.quota import Limits, Quotas, Rate
from gearshift.core.rights import EVERYTHING
from gearshift.quotas import Table
from gearshift.rpc import wire
from gearshift.rpc.infer import LONGEST_REST, Inferences
from gearshift.rpc.preparing import Preparer
from gearshift.rpc.shared_memory import SharedMemory

ONE = Rate(rows=0.001, burst=2.0)
"""Two rows, and then nothing for a long time."""


@pytest.fixture
def limited(make_bench):
    def make(identity: str = "", **limits):
        bench = make_bench()
        table = Table.private()
        bench.engine.doorkeeper.quotas = Quotas(Limits(**limits), table.numbers, table.key)
        bench.engine.doorkeeper.identity = identity
        return bench

    return make


def request(rows: int = 1, **parameters: str) -> pb.ModelInferRequest:
    tensor = triton.InferInput("x", [rows, 3], "FP32")
    tensor.set_data_from_numpy(np.ones((rows, 3), np.float32))
    made = pb.ModelInferRequest(model_name="m")
    made.inputs.append(tensor._get_tensor())
    made.raw_input_contents.append(tensor._get_content())
    for name, value in parameters.items():
        made.parameters[name].string_param = value
    return made


def ask(bench, metadata=(), **options) -> str:
    """The status of a request."""
    with grpc.insecure_channel(bench.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            stub.ModelInfer(request(**options), metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            bench.error = error
            return error.code().name
        return "OK"


def test_who_is_over_is_told_when_to_come_back_and_others_are_served(limited):
    bench = limited(identity="x-tenant", default=ONE)
    loud, quiet = (("x-tenant", "loud"),), (("x-tenant", "quiet"),)
    assert [ask(bench, loud) for _ in range(4)] == ["OK", "OK"] + ["RESOURCE_EXHAUSTED"] * 2
    assert "the quota of client 'loud' is used up" in bench.error.details()
    (detail,) = rpc_status.from_call(bench.error).details
    info = error_details_pb2.RetryInfo()
    assert detail.Unpack(info)
    assert info.retry_delay.seconds > 900
    assert ask(bench, quiet) == ask(bench) == "OK"
    assert bench.engine.doorkeeper.refused == {"": 2}
    assert bench.telemetry.outcomes() == {"served": 4, "shed": 2}


def test_rows_count_and_what_is_refused_takes_nothing(limited):
    bench = limited(clients={"anonymous": Rate(0.001, 3.0)})
    assert ask(bench, rows=2) == "OK"
    assert ask(bench, rows=2) == "RESOURCE_EXHAUSTED"
    assert ask(bench, rows=1) == "OK"
    assert ask(bench) == "RESOURCE_EXHAUSTED"
    assert bench.engine.doorkeeper.refused == {"anonymous": 2}


def test_a_class_has_a_quota_for_all(limited):
    bench = limited(classes={("m", "archive"): ONE})
    archive = {"service_class": "archive"}
    assert [ask(bench, **archive) for _ in range(3)] == ["OK", "OK", "RESOURCE_EXHAUSTED"]
    assert "class 'archive' of model 'm'" in bench.error.details()
    assert ask(bench) == "OK"


def test_each_message_of_a_stream_counts(limited):
    bench = limited(identity="x-tenant", default=ONE)
    with grpc.insecure_channel(bench.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answers = stub.ModelStreamInfer(
            iter([request() for _ in range(5)]), metadata=(("x-tenant", "one"),), timeout=10
        )
        told = [answer.error_message for answer in answers]
    assert sorted(bool(message) for message in told) == [False] * 2 + [True] * 3
    assert any("client 'one'" in message for message in told)
    # Each is counted once, and by its model.
    ended = [(each.model, each.status) for each in bench.telemetry.settleds]
    assert sorted(ended) == [("m", "OK")] * 2 + [("m", "RESOURCE_EXHAUSTED")] * 3


class Asking:
    """A call's stream, and the connection behind it."""

    received = 5.0

    def __init__(self) -> None:
        self.ended = b""
        self.clients: list[str] = []
        self.rests: list[float] = []
        self.finish = lambda block: setattr(self, "ended", block)
        self.used_by = self.clients.append
        self.rest = self.rests.append


def call(attempts: int = 0, *metadata: tuple[str, str]) -> wire.Call:
    return wire.Call("", math.inf, b"", metadata, True, attempts=attempts)


def test_while_much_is_shed_retries_are_refused_unread(make_bench):
    bench = make_bench()
    doorkeeper = bench.engine.doorkeeper
    inferences = Inferences(
        bench.engine, SharedMemory(allowed=False), Preparer(bench.engine.clock, bench.engine.usage)
    )
    first, again = Asking(), Asking()

    async def storm() -> list[bool]:
        now = bench.engine.clock.now()
        for _ in range(1_000):
            doorkeeper._damper.came(0, now)
            doorkeeper._damper.shed(now)
        doorkeeper._damper._retries = 1_000.0
        asked = enumerate((first, again))
        return [inferences.turns_away(each, call(tries), EVERYTHING) for tries, each in asked]

    assert bench.run(storm()) == [False, True]
    assert b"retries" in again.ended
    assert (first.ended, again.rests, doorkeeper.retries_refused) == (b"", [], 1)
    assert bench.telemetry.outcomes() == {"shed": 1}


def test_a_connection_that_goes_on_over_its_quota_rests(limited):
    bench = limited(identity="x-tenant", default=ONE)
    inferences = Inferences(
        bench.engine, SharedMemory(allowed=False), Preparer(bench.engine.clock, bench.engine.usage)
    )
    asked = Asking()

    async def flood() -> list[bool]:
        now = bench.engine.clock.now()
        bench.engine.doorkeeper.quotas.take("loud", "m", "default", 2, now)
        return [
            inferences.turns_away(asked, call(0, ("x-tenant", name)), EVERYTHING)
            for name in ("quiet", "loud")
        ]

    assert bench.run(flood()) == [False, True]
    assert asked.clients == ["quiet", "loud"]
    assert asked.rests == [LONGEST_REST]


@pytest.mark.parametrize(
    ("said", "attempts"),
    [(b"2", 2), (b"", 0), (b"-1", 0), (b"x", 0), (b"9" * 40, 0), (b"1 ", 0)],
)
def test_how_often_it_was_sent_before(said, attempts):
    read = wire.read_call(((b":path", b"/x"), (b"grpc-previous-rpc-attempts", said)))
    assert (read.attempts, read.metadata) == (attempts, ())
