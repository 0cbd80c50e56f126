"""Callers that ask for too much: the right status, the setting named, and nobody else harmed."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from contextlib import suppress

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf.internal.encoder import _VarintBytes as varint
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from gearshift.core.limits import MIB, Limits
from gearshift.errors import InvalidInput
from gearshift.http2 import Stream, frames
from gearshift.rpc import calls, wire
from gearshift.rpc.entries import MOST_ENTRIES, check_entries
from gearshift.rpc.infer import LONGEST_REST
from http2_pair import GREETING, raw
from raw_client import FRAMED, PATH, Raw, in_its_loop, request, value_of

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def stub(channel):
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def ends(call) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def test_a_message_above_the_limit_names_the_setting(make_bench):
    bench = make_bench(limits=Limits(max_message_bytes=MIB))
    big = request()
    big.raw_input_contents[0] = bytes(MIB)
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        with grpc.insecure_channel(bench.address, compression=compression) as channel:
            code, text = ends(lambda channel=channel: stub(channel).ModelInfer(big))
            assert code is EXHAUSTED
            assert "1048576 bytes a message (setting max_message_bytes)" in text
            assert value_of(stub(channel).ModelInfer(request())) == 6.0
    assert bench.usage.reached["max_message_bytes"] == 2


def test_what_is_no_inference_request_is_small(make_bench):
    with grpc.insecure_channel(make_bench().address) as channel:
        ready = pb.ModelReadyRequest(name="m" * 5 * MIB)
        code, _ = ends(lambda: stub(channel).ModelReady(ready))
    assert code is EXHAUSTED


def test_inputs_that_wait_have_a_bound_in_bytes(make_bench):
    """The first ones wait and are answered; what comes on top of them is refused at once."""
    bench = make_bench(
        limits=Limits(max_queue_bytes=40), duration=lambda variant, rows: 0.3, workers=1
    )
    with grpc.insecure_channel(bench.address) as channel:
        waiting = [stub(channel).ModelInfer.future(request(float(n))) for n in range(3)]
        while bench.run(usage_of(bench)) < 36:
            time.sleep(0.005)
        code, text = ends(lambda: stub(channel).ModelInfer(request()))
        assert code is EXHAUSTED
        assert "40 bytes of inputs that wait (setting max_queue_bytes)" in text
        assert [value_of(each.result(20)) for each in waiting] == [0.0, 3.0, 6.0]
        assert bench.run(usage_of(bench)) == 0
        assert value_of(stub(channel).ModelInfer(request())) == 6.0
    assert bench.usage.reached["max_queue_bytes"] == 1


async def usage_of(bench) -> int:
    return bench.usage.queued


def test_a_full_queue_is_counted_and_told(make_bench):
    bench = make_bench(limits=Limits(max_queue=1), duration=lambda variant, rows: 0.3, workers=1)
    with grpc.insecure_channel(bench.address) as channel:
        asked = []
        for n in range(8):
            asked.append(stub(channel).ModelInfer.future(request(float(n))))
            time.sleep(0.01)
        codes = [each.code() for each in asked]
        told = [each.details() for each in asked if each.code() is EXHAUSTED]
    assert grpc.StatusCode.OK in codes
    assert any("setting max_queue" in text for text in told)
    assert bench.usage.reached["max_queue"] >= 1


def test_requests_under_way_have_a_bound_and_probes_are_answered_above_it(make_bench):
    bench = make_bench(limits=Limits(max_requests=2), duration=lambda variant, rows: 0.3, workers=1)
    with grpc.insecure_channel(bench.address) as channel:
        asked = [stub(channel).ModelInfer.future(request(float(n))) for n in range(10)]
        health = health_pb2_grpc.HealthStub(channel)
        told = health.Check(health_pb2.HealthCheckRequest(service="m"), timeout=10)
        assert told.status == health_pb2.HealthCheckResponse.SERVING
        codes = [each.code() for each in asked]
        refused = [each for each in asked if each.code() is EXHAUSTED]
    assert codes.count(grpc.StatusCode.OK) >= 2
    assert refused
    assert all("setting max_requests" in each.details() for each in refused)
    assert bench.usage.reached["max_requests"] == len(refused)
    # Each request is counted once, as refused.
    assert bench.telemetry.outcomes()["shed"] == len(refused)


def test_requests_of_one_connection_have_a_bound_however_few_streams_they_are_in(
    make_bench, monkeypatch
):
    rests = []
    monkeypatch.setattr(Stream, "rest", lambda self, seconds: rests.append(seconds))
    bench = make_bench(
        limits=Limits(max_requests_per_connection=10),
        duration=lambda variant, rows: 0.2,
        workers=1,
    )
    with grpc.insecure_channel(bench.address) as channel:
        sent = [request(float(n)) for n in range(50)]
        for n, each in enumerate(sent):
            each.id = str(n)
        answers = list(stub(channel).ModelStreamInfer(iter(sent)))
    refused = [each for each in answers if each.error_message]
    assert len(answers) == 50
    assert {each.infer_response.id for each in answers} == {str(n) for n in range(50)}
    assert refused
    assert all("max_requests_per_connection" in each.error_message for each in refused)
    assert bench.usage.requests == 0
    # Refusing takes time from others: who sends on is not read from for a moment.
    assert len(rests) == len(refused)
    assert set(rests) == {LONGEST_REST}


async def test_few_that_open_calls_without_end_do_not_keep_the_others_out(make_bench):
    bench = make_bench(limits=Limits(max_requests=100))
    host, port = bench.address.split(":")
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(GREETING + b"".join(wire_head(2 * n + 1) for n in range(150)))
    async with asyncio.timeout(10):
        while not bench.usage.reached["max_requests"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await Raw(bench).ask(FRAMED))["grpc-status"] == "0"
    assert bench.usage.requests >= 100
    # Who does not stop is sent away.
    writer.write(b"".join(wire_head(2 * n + 1) for n in range(150, 4_000)))
    async with asyncio.timeout(10):
        await ended(reader)
    assert bench.usage.reached["max_cancels_per_second"] == 1
    writer.close()
    # Nothing of it is left, not even of the call that was one too many.
    async with asyncio.timeout(10):
        while bench.usage.requests or bench.usage.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_who_sends_bomb_after_bomb_is_sent_away(make_bench):
    bench = make_bench(limits=Limits(max_message_bytes=MIB, max_cancels_per_second=400))
    bomb = request()
    bomb.raw_input_contents[0] = bytes(MIB)
    with grpc.insecure_channel(bench.address, compression=grpc.Compression.Gzip) as channel:
        asked = [stub(channel).ModelInfer.future(bomb) for _ in range(20)]
        assert EXHAUSTED in {each.code() for each in asked}
    assert bench.usage.reached["max_cancels_per_second"] >= 1


async def test_connections_have_a_bound_and_who_is_in_is_served(make_bench):
    bench = make_bench(limits=Limits(max_connections=3))
    host, port = bench.address.split(":")
    with grpc.insecure_channel(bench.address) as channel:
        assert value_of(stub(channel).ModelInfer(request())) == 6.0
        idle = [await asyncio.open_connection(host, port) for _ in range(6)]
        async with asyncio.timeout(10):
            ended = [await closed(reader) for reader, _ in idle[2:]]
        assert all(ended)
        assert value_of(stub(channel).ModelInfer(request())) == 6.0
        assert bench.usage.connections == 3
        assert bench.usage.refused["max_connections"] == 4
        for _, writer in idle:
            writer.close()
        async with asyncio.timeout(10):
            while bench.usage.connections > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        # There is room again.
        assert (await Raw(bench).ask(FRAMED))["grpc-status"] == "0"


async def closed(reader) -> bool:
    with suppress(ConnectionResetError):
        return await reader.read(1) == b""
    return True


async def test_one_address_has_fewer_connections_than_all_together(make_bench):
    bench = make_bench(limits=Limits(max_connections=10, max_connections_per_peer=2))
    _, port = bench.address.split(":")
    mine = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    async with asyncio.timeout(10):
        assert await closed(mine[2][0])
        assert bench.usage.refused["max_connections_per_peer"] == 1
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=("127.0.0.2", 0)
        )
        assert await reader.read(9)  # the server's settings
    for _, each in (*mine, (reader, writer)):
        each.close()


# --- hostile messages ------------------------------------------------------------------------


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def repeated_tensors() -> bytes:
    return field(5, b"") * 1_000_000


def parameters_in_a_tensor() -> bytes:
    return field(5, field(4, b"") * 100_000)


def a_shape_without_end() -> bytes:
    return field(5, field(3, b"\x01" * 1_000_000))


def unknown_fields() -> bytes:
    return field(77, b"") * 1_000_000


def groups() -> bytes:
    return b"\xa3\x06" * 200_000  # a group begins, in it another one, ...


@pytest.mark.parametrize(
    "make", [repeated_tensors, parameters_in_a_tensor, a_shape_without_end, unknown_fields, groups]
)
def test_a_small_message_that_would_become_a_large_one_is_not_parsed(bench, make):
    with pytest.raises(InvalidInput):
        check_entries(make())
    with grpc.insecure_channel(bench.address) as channel:
        code, text = ends(lambda: channel.unary_unary(PATH)(make()))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "fields" in text or "shape" in text
        assert value_of(stub(channel).ModelInfer(request())) == 6.0


def test_a_request_of_many_parts_is_taken_and_what_is_no_message_left_to_the_parser():
    made = pb.ModelInferRequest(model_name="m")
    for n in range(100):
        made.inputs.add(name=f"x{n}", datatype="FP32", shape=[1] * 8)
        made.raw_input_contents.append(bytes(10_000))
    check_entries(made.SerializeToString())
    for sound in (b"", b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a", bytes(MOST_ENTRIES)):
        check_entries(sound)


@pytest.mark.parametrize("shape", [[2**32, 2**32], [0, 3], [-1, 3], [2**63 - 1] * 8])
def test_shapes_that_overflow_are_refused(bench, shape):
    made = request()
    made.inputs[0].shape[:] = shape
    with grpc.insecure_channel(bench.address) as channel:
        code, _ = ends(lambda: stub(channel).ModelInfer(made))
        assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_tensor_given_twice_and_text_that_is_none_are_refused(bench):
    twice = request()
    twice.inputs.append(twice.inputs[0])
    twice.raw_input_contents.append(twice.raw_input_contents[0])
    with grpc.insecure_channel(bench.address) as channel:
        code, text = ends(lambda: stub(channel).ModelInfer(twice))
        assert (code, "given twice" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        code, _ = ends(lambda: channel.unary_unary(PATH)(field(1, b"\xff\xfe")))
        assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_name_as_long_as_a_message_is_not_sent_back_whole(bench):
    made = request()
    made.model_name = "n" * 3_000_000
    with triton.InferenceServerClient(bench.address), grpc.insecure_channel(bench.address) as one:
        (answer,) = list(stub(one).ModelStreamInfer(iter([made])))
    assert 0 < len(answer.error_message) <= wire.LONGEST_TEXT


@pytest.mark.parametrize(("said", "code"), [("0n", "4"), ("0S", "4"), ("99999999H", "0")])
@pytest.mark.parametrize("path", [PATH, "/inference.GRPCInferenceService/ServerLive"])
async def test_any_timeout_is_understood(bench, said, code, path):
    message = FRAMED if path == PATH else wire.framed(b"")
    headers = await Raw(bench, path=path, extra=[("grpc-timeout", said)]).ask(message)
    # What needs no time at all may be answered in none.
    assert headers["grpc-status"] in (code, "9" if path == PATH else "0")


async def test_a_message_that_says_it_has_four_gigabytes_is_refused_at_once(bench):
    headers = await Raw(bench).ask(b"\x00\xff\xff\xff\xff" + bytes(100), ended=False)
    assert headers["grpc-status"] == str(EXHAUSTED.value[0])


async def test_a_message_in_tiny_frames_takes_no_more_than_it_holds(make_bench):
    """A frame of one byte would be an object of forty."""
    bench = make_bench()
    with socket.create_connection(bench.address.split(":")) as client:
        client.settimeout(10)
        head = wire_head()
        announced = b"\x00" + struct.pack(">L", 2_000_000)
        tiny = raw(frames.DATA, 0, 1, b"12345")
        client.sendall(GREETING + head + raw(frames.DATA, 0, 1, announced))
        sizes: list[int] = []

        def parts() -> None:
            for connection in bench.server._connections:
                for stream in connection.streams.values():
                    assert isinstance(stream.receiver, calls.UnaryCall)
                    sizes.append(len(stream.receiver._parts))

        for _ in range(2_000):
            client.sendall(tiny)
            if _ % 100 == 0:
                await asyncio.sleep(0.001)
        async with asyncio.timeout(10):
            while bench.usage.held < 2_000 * 5:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await in_its_loop(bench, parts)
    assert sizes
    assert max(sizes) < 10


def wire_head(number: int = 1) -> bytes:
    block = b"".join(
        b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", PATH.encode()),
            (b"content-type", b"application/grpc"),
        )
    )
    return raw(frames.HEADERS, frames.END_HEADERS, number, block)


# --- slow ones, as a whole -------------------------------------------------------------------


async def test_who_does_not_get_on_is_ended_and_the_others_are_served(make_bench):
    bench = make_bench(limits=Limits(stall_seconds=0.5))
    host, port = bench.address.split(":")
    halves = {
        "a frame": GREETING + frames.head(100, frames.HEADERS, 4, 1),
        "a header block": GREETING + raw(frames.HEADERS, 0, 1, b"\x82"),
    }

    def sweep() -> None:
        bench.server._sweeping.sweep(bench.server._connections)

    slow = []
    for sent in halves.values():
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(sent)
        slow.append((reader, writer))
    stream = asyncio.ensure_future(
        Raw(bench, path="/inference.GRPCInferenceService/ModelStreamInfer").ask(
            FRAMED[:10], ended=False
        )
    )
    async with asyncio.timeout(20):
        # One that two looks found silent would be closed for that.
        while sum(each.greeted for each in tuple(bench.server._connections)) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        with grpc.insecure_channel(bench.address) as channel:
            watched = asyncio.gather(*(ended(reader) for reader, _ in slow))
            while not (watched.done() and stream.done()):
                await in_its_loop(bench, sweep)
                assert value_of(stub(channel).ModelInfer(request())) == 6.0
                await asyncio.sleep(0.1)
        headers = await stream
    assert headers["grpc-status"] == str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
    assert bench.usage.reached["stall_seconds"] == 3
    for _, writer in slow:
        writer.close()


async def ended(reader) -> None:
    with suppress(ConnectionResetError):
        while await reader.read(65_536):
            pass


def test_cancelled_requests_free_their_places_at_once(make_bench):
    """Far more of them than there are places, one after the other; then somebody else asks."""
    bench = make_bench(limits=Limits(max_queue=50), duration=lambda variant, rows: 0.05, workers=1)
    with grpc.insecure_channel(bench.address) as channel:
        for n in range(300):
            stub(channel).ModelInfer.future(request(float(n))).cancel()
        with grpc.insecure_channel(bench.address, [("grpc.use_local_subchannel_pool", 1)]) as other:
            assert value_of(stub(other).ModelInfer(request(), timeout=10)) == 6.0
    assert np.isfinite(bench.usage.queued)
