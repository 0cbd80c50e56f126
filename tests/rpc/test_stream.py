"""ModelStreamInfer through the stock client and through the bare stub."""

from __future__ import annotations

import asyncio
import math
import queue
import time
from itertools import count, pairwise
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from gearshift.core.rights import EVERYTHING
from gearshift.http2.turns import SLICE, Turns
from gearshift.rpc import infer_stream, wire
from gearshift.rpc.infer import Inferences
from gearshift.rpc.preparing import Preparer
from gearshift.rpc.shapes import Shapes
from gearshift.rpc.shared_memory import SharedMemory
from gearshift.rpc.unpacking import Unpacker


def tensor(value: float = 1.0, rows: int = 1) -> triton.InferInput:
    made = triton.InferInput("x", [rows, 3], "FP32")
    made.set_data_from_numpy(np.full((rows, 3), value, np.float32))
    return made


def message(number: int, **changes) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="m", id=str(number), **changes)
    made.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    made.raw_input_contents.append(np.full(3, number, np.float32).tobytes())
    return made


def stub_of(bench) -> service_pb2_grpc.GRPCInferenceServiceStub:
    return service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(bench.address))


def value_of(response: pb.ModelStreamInferResponse) -> float:
    return float(np.frombuffer(response.infer_response.raw_output_contents[0], np.float32)[0])


def test_the_stock_clients_stream_gets_every_answer_and_its_mistakes(bench):
    got: queue.Queue = queue.Queue()
    with triton.InferenceServerClient(bench.address) as client:
        client.start_stream(lambda result, error: got.put((result, error)))
        client.async_stream_infer("m", [tensor(2.0)], request_id="good")
        client.async_stream_infer("nope", [tensor()], request_id="bad")
        client.async_stream_infer("m", [tensor(3.0)], request_id="good too")
        found = [got.get(timeout=10) for _ in range(3)]
        client.stop_stream()
    good = {r.get_response().id: r.as_numpy("y").tolist() for r, e in found if e is None}
    assert good == {"good": [[6.0]], "good too": [[9.0]]}
    (bad,) = [error for _, error in found if error is not None]
    assert "nope" in str(bad)


def test_a_thousand_requests_on_one_stream_are_each_answered_once(bench):
    answers = list(stub_of(bench).ModelStreamInfer(message(n) for n in range(1000)))
    assert sorted(int(a.infer_response.id) for a in answers) == list(range(1000))
    assert all(value_of(a) == 3.0 * int(a.infer_response.id) for a in answers)
    told = answers[0].infer_response.parameters
    assert told["triton_final_response"].bool_param is True
    assert told["variant"].string_param == "large"


def test_a_mistake_is_told_with_its_id_and_the_stream_goes_on(bench):
    wrong = message(1, model_version="77")
    first, second = stub_of(bench).ModelStreamInfer(iter([wrong, message(2)]))
    if first.infer_response.id == "2":
        first, second = second, first
    assert "77" in first.error_message
    assert (first.infer_response.id, second.infer_response.id) == ("1", "2")
    assert first.infer_response.parameters["triton_final_response"].bool_param


def test_who_wants_a_status_gets_one_and_the_stream_ends(bench):
    call = stub_of(bench).ModelStreamInfer(
        iter([message(1, model_version="77")]), metadata=(("triton_grpc_error", "true"),)
    )
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_what_is_no_request_is_told_and_the_stream_goes_on(bench):
    channel = grpc.insecure_channel(bench.address)
    raw = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    answers = list(raw(iter([b"\xff\xff", message(5).SerializeToString()])))
    read = [pb.ModelStreamInferResponse.FromString(each) for each in answers]
    assert ["not a ModelInferRequest" in each.error_message for each in read].count(True) == 1
    assert [each.infer_response.id for each in read if not each.error_message] == ["5"]


def test_a_stream_that_is_given_up_frees_every_place(make_bench):
    bench = make_bench(duration=lambda variant, rows: 0.2, workers=1, max_batch_size=1)
    waiting: queue.Queue = queue.Queue()
    call = stub_of(bench).ModelStreamInfer(iter(waiting.get, None))
    for number in range(20):
        waiting.put(message(number))
    next(iter(call))
    call.cancel()
    waiting.put(None)
    end = time.monotonic() + 10
    while bench.run(flights(bench)) and time.monotonic() < end:
        time.sleep(0.02)
    assert bench.run(flights(bench)) == 0
    outcomes = bench.telemetry.outcomes()
    assert outcomes["cancelled"] + outcomes["served"] == 20
    assert outcomes["cancelled"] >= 17


async def flights(bench) -> int:
    return len(bench.engine._settling)


def test_a_stream_has_no_more_under_way_than_the_bound(make_bench, monkeypatch):
    """Who sends on while nothing is answered is held back by the window, not by memory."""
    monkeypatch.setattr(infer_stream, "MOST_UNDER_WAY", 4)
    bench = make_bench(duration=lambda variant, rows: 0.005)
    answers = list(stub_of(bench).ModelStreamInfer(message(n) for n in range(200)))
    assert len(answers) == 200


def test_the_streams_deadline_is_each_requests_budget(make_bench):
    bench = make_bench(predicted={"large": (0.5, 0.0), "small": (0.4, 0.0)})
    (answer,) = stub_of(bench).ModelStreamInfer(iter([message(1)]), timeout=0.3)
    assert "within" in answer.error_message


MISTAKES = [
    wire.framed(pb.ModelInferRequest(model_name="nope", id=str(n)).SerializeToString())
    for n in range(5)
]


def made_up_stream(bench, sent: list[bytes], turns: Turns | None = None) -> SimpleNamespace:
    """Keeps what is sent on it."""
    stream = SimpleNamespace(
        open=True,
        held=0,
        received=0.0,
        waiting=False,
        begin=lambda head: None,
        send=lambda framed: sent.append(framed) is None,
        usage=bench.usage,
        connection=SimpleNamespace(streams={}, requests=0, turns=turns),
        more=lambda size: None,
        taken=lambda size: None,
    )

    def finish(trailers: bytes) -> None:
        stream.open = False

    stream.finish = finish
    return stream


def asking(bench, stream: SimpleNamespace) -> infer_stream.InferStream:
    call = wire.Call("", math.inf, b"", (), True)
    inferences = Inferences(
        bench.engine,
        SharedMemory(allowed=False),
        Preparer(bench.engine.clock, bench.engine.usage),
    )
    return infer_stream.InferStream(stream, call, EVERYTHING, Shapes(), Unpacker(), inferences)


def test_mistakes_in_the_last_bytes_of_a_stream_are_all_told(make_bench):
    """The first of them, answered at once, must not end the stream before the others are read."""
    bench = make_bench()
    sent: list[bytes] = []
    stream = made_up_stream(bench, sent)
    whole = b"".join(MISTAKES[:3])

    async def play() -> None:
        asking(bench, stream).data(whole, ended=True)

    bench.run(play())
    told = [pb.ModelStreamInferResponse.FromString(each[wire.PREFIX :]) for each in sent]
    assert [each.infer_response.id for each in told] == ["0", "1", "2"]
    assert not stream.open


def test_many_messages_in_one_frame_are_read_in_turns(make_bench):
    """Nobody else would be read from while one who sends a thousand at once is."""
    bench = make_bench()
    sent: list[bytes] = []
    after: list[int] = []

    async def play() -> None:
        ticks = count()
        stream = made_up_stream(bench, sent, Turns(now=lambda: next(ticks) * 0.6 * SLICE))
        asks = asking(bench, stream)
        # Cut somewhere: what comes while it waits is read behind what has come before.
        whole = b"".join(MISTAKES)
        at = len(whole) - 7
        asks.data(whole[:at], ended=False)
        after.append(len(sent))
        asks.data(whole[at:], ended=True)
        after.append(len(sent))
        assert asks.incomplete_since() == math.inf
        while stream.open:
            await asyncio.sleep(0)
            after.append(len(sent))

    bench.run(play())
    told = [pb.ModelStreamInferResponse.FromString(each[wire.PREFIX :]) for each in sent]
    assert [each.infer_response.id for each in told] == ["0", "1", "2", "3", "4"]
    assert after[0] == after[1] < 4
    assert max(b - a for a, b in pairwise(after)) <= 2


def test_who_leaves_while_it_waits_for_its_turn_is_forgotten(make_bench):
    bench = make_bench()
    sent: list[bytes] = []

    async def play() -> None:
        ticks = count()
        turns = Turns(now=lambda: next(ticks) * 0.6 * SLICE)
        stream = made_up_stream(bench, sent, turns)
        asks = asking(bench, stream)
        asks.data(b"".join(MISTAKES), ended=False)
        asks.cancelled()
        for _ in range(10):
            await asyncio.sleep(0)

    bench.run(play())
    assert 0 < len(sent) < 4
