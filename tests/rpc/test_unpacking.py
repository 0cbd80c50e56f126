"""Compressed messages that grow large: unpacked beside the loop, one at a time, in their order."""

from __future__ import annotations

import gzip
import threading

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import service_pb2_grpc

from gearshift.core.limits import MIB, Limits
from gearshift.rpc import wire
from gearshift.rpc.unpacking import AT_ONCE, Packed, unpacked
from raw_client import request, value_of
from waiting import WITHIN, until

real = wire.decompressed


class Stopped:
    """Unpacking that takes long stands still until it is let go on."""

    def __init__(self) -> None:
        self.begun = 0
        self.at_a_time = self.most = 0
        self.on = threading.Event()
        self._lock = threading.Lock()

    def decompressed(self, message: bytes, encoding: bytes, limit: int) -> bytes:
        if limit == AT_ONCE:
            return real(message, encoding, limit)
        with self._lock:
            self.begun += 1
            self.at_a_time += 1
            self.most = max(self.most, self.at_a_time)
        assert self.on.wait(WITHIN)
        with self._lock:
            self.at_a_time -= 1
        return real(message, encoding, limit)

    def wait_for(self, begun: int) -> None:
        until(lambda: self.begun >= begun)


@pytest.fixture
def stopped(monkeypatch):
    made = Stopped()
    monkeypatch.setattr(wire, "decompressed", made.decompressed)
    yield made
    made.on.set()


@pytest.fixture
def channel(bench):
    with grpc.insecure_channel(bench.address, compression=grpc.Compression.Gzip) as made:
        yield made


def large(value: float = 5.0):
    made = request(value)
    made.id = f"{value:g}" + "i" * MIB
    return made


def stub(channel):
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_only_what_takes_long_is_left_packed(extra):
    message = bytes(AT_ONCE + extra)
    packed = gzip.compress(message)
    found = unpacked(packed, b"gzip", MIB)
    assert found == (message if extra <= 0 else Packed(packed, b"gzip", MIB))
    if extra > 0:
        with pytest.raises(wire.TooLarge):
            unpacked(packed, b"gzip", AT_ONCE)


def test_others_are_served_meanwhile_and_large_ones_come_one_at_a_time(bench, channel, stopped):
    waiting = [stub(channel).ModelInfer.future(large(float(n)), timeout=WITHIN) for n in range(3)]
    stopped.wait_for(1)
    assert value_of(stub(channel).ModelInfer(request(), timeout=WITHIN)) == 6.0
    stopped.on.set()
    answers = [each.result() for each in waiting]
    assert [value_of(each) for each in answers] == [0.0, 3.0, 6.0]
    assert [len(each.id) for each in answers] == [MIB + 1] * 3
    assert (stopped.begun, stopped.most) == (3, 1)
    until(lambda: bench.usage.held == 0)


def test_who_leaves_frees_what_was_kept_and_does_not_hold_up_the_next(bench, channel, stopped):
    calls = [stub(channel).ModelInfer.future(large(), timeout=WITHIN) for _ in range(3)]
    stopped.wait_for(1)
    until(lambda: bench.usage.held > 0)
    for call in calls:
        call.cancel()
    until(lambda: bench.usage.held == 0)
    last = stub(channel).ModelInfer.future(large(), timeout=WITHIN)
    stopped.on.set()
    assert value_of(last.result()) == 15.0
    # Those two that had not begun never did.
    assert stopped.begun == 2


def test_a_stream_is_read_on_where_the_large_one_ended(bench, channel, stopped):
    asked = [request(0.0), large(1.0), request(2.0), large(3.0), request(4.0)]
    answers = stub(channel).ModelStreamInfer(iter(asked), timeout=WITHIN)
    first = next(answers)
    assert value_of(first.infer_response) == 0.0
    stopped.wait_for(1)
    stopped.on.set()
    rest = [value_of(each.infer_response) for each in answers]
    assert sorted(rest) == [3.0, 6.0, 9.0, 12.0]
    assert (stopped.begun, stopped.most) == (2, 1)
    until(lambda: bench.usage.held == 0)


def test_a_stream_that_is_cancelled_meanwhile(bench, channel, stopped):
    answers = stub(channel).ModelStreamInfer(iter([large(), request()]), timeout=WITHIN)
    stopped.wait_for(1)
    answers.cancel()
    until(lambda: bench.usage.held == 0)
    stopped.on.set()
    assert value_of(stub(channel).ModelInfer(large(), timeout=WITHIN)) == 15.0


def test_what_is_too_large_in_the_end_ends_a_stream(make_bench):
    bench = make_bench(limits=Limits(max_message_bytes=MIB))
    with grpc.insecure_channel(bench.address, compression=grpc.Compression.Gzip) as channel:
        answers = stub(channel).ModelStreamInfer(iter([request(), large()]), timeout=WITHIN)
        with pytest.raises(grpc.RpcError) as told:
            list(answers)
        assert told.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "max_message_bytes" in told.value.details()
    assert bench.usage.reached["max_message_bytes"] == 1


def test_streams_of_other_services_wait_for_theirs(channel, stopped):
    stopped.on.set()
    ask = reflection_pb2.ServerReflectionRequest
    asked = [ask(list_services=""), ask(file_by_filename="f" * MIB), ask(list_services="")]
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    answers = list(reflection.ServerReflectionInfo(iter(asked), timeout=WITHIN))
    told = [each.WhichOneof("message_response") for each in answers]
    assert told == ["list_services_response", "error_response", "list_services_response"]
    assert stopped.begun == 1
