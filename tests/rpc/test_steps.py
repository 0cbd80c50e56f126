"""Models with steps, as stock clients call them: what they are told and get, and what becomes of
requests while their inputs are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from builders import make_profiles
from gearshift.core.catalog import Catalog
from gearshift.errors import ExecutorFailed, Outcome
from grpc_bench import GrpcBench
from stepped import asked, numbers_of, refused, step_of, steps, text_of
from waiting import until
from written import Written


@pytest.fixture
def bench(make_bench) -> GrpcBench:
    return make_bench(steps=steps())


@pytest.fixture
def client(bench) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(bench.address) as made:
        yield made


@pytest.fixture
def held(bench) -> Iterator[Written]:
    """The step, which makes nothing yet."""
    step = step_of(bench)
    step.gate.clear()
    yield step
    step.gate.set()


def test_what_callers_send_is_what_they_are_told(client):
    metadata = client.get_model_metadata("m")
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [
        ("written", "BYTES", [-1, 1])
    ]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [
        ("y", "FP32", [-1, 1]),
        ("high", "BOOL", [-1, 1]),
        ("label", "BYTES", [-1, 1]),
    ]
    config = client.get_model_config("m").config
    assert [(t.name, list(t.dims)) for t in config.input] == [("written", [1])]
    assert config.parameters["before.written"].string_value == "written: x FP32 [3]"
    assert config.parameters["after.high"].string_value == "threshold: y"
    # Another model of the server has none, and is as it was.
    assert [t.name for t in client.get_model_metadata("other").inputs] == ["x"]


def test_both_ways_give_the_same_answers(client):
    rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    texts = client.infer("m", [text_of(b"1 2 3", b"4 5 6")], request_id="a")
    tensors = client.infer("m", [numbers_of(*rows)])
    for answer in (texts, tensors):
        assert answer.as_numpy("y").tolist() == [[6.0], [15.0]]
        assert answer.as_numpy("high").tolist() == [[False], [True]]
        assert answer.as_numpy("label").tolist() == [[b"sum"], [b"sum"]]
    told = texts.get_response()
    assert told.id == "a"
    prepare, queue = (told.parameters[n].int64_param for n in ("prepare_us", "queue_us"))
    assert 0 < prepare <= queue
    assert "prepare_us" not in tensors.get_response().parameters


def test_classes_have_their_labels(client):
    wanted = [triton.InferRequestedOutput("y", class_count=1)]
    answer = client.infer("m", [text_of(b"1 2 3")], outputs=wanted)
    assert answer.as_numpy("y").tolist() == [[b"6.000000:0:sum"]]


def test_only_what_is_asked_for(client):
    answer = client.infer("m", [text_of(b"1 2 3")], outputs=[triton.InferRequestedOutput("label")])
    assert [output.name for output in answer.get_response().outputs] == ["label"]
    assert refused(client, text_of(b"1 2 3"), outputs=[triton.InferRequestedOutput("z")]) == (
        "INVALID_ARGUMENT",
        "model 'm' has no output 'z'; it has y, high, label",
    )


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ([text_of(b"1 2 3", b"1 2")], "input 'written', row 1: is no three numbers"),
        ([text_of(b"1" * 101)], "input 'written', row 0: has 101 bytes; at most 100 are read"),
        ([text_of(b"1 2 3", name="w")], "has no input 'w' beside 'x' (alone, it takes written as"),
        (
            [text_of(b"1 2 3"), numbers_of([1, 2, 3])],
            "has no input 'x' beside 'written' (alone, it takes x as well); it takes written BYTES",
        ),
        ([text_of(*[b"1 2 3"] * 9)], "has 9 rows; model 'm' takes 1 to 8"),
    ],
)
def test_mistakes(client, bench, inputs, told):
    status, message = refused(client, *inputs)
    assert (status, told in message) == ("INVALID_ARGUMENT", True), message
    assert bench.usage.queued == 0
    # It has cost the next one nothing.
    assert client.infer("m", [text_of(b"1 2 3")]).as_numpy("y").tolist() == [[6.0]]


def test_what_would_be_refused_is_not_read_at_all(client, bench):
    """Not what no variant can do, nor an unknown parameter."""
    for options, status in (
        ({"parameters": {"min_accuracy": 0.99}}, "FAILED_PRECONDITION"),
        ({"parameters": {"latency_budget_ms": 0.01}}, "FAILED_PRECONDITION"),
        ({"parameters": {"latency_bugdet_ms": 5}}, "INVALID_ARGUMENT"),
        ({"model_version": "9"}, "NOT_FOUND"),
    ):
        assert refused(client, text_of(b"1 2 3"), **options)[0] == status
    assert step_of(bench).read == []


@pytest.mark.parametrize("sent", [b"panic", b"broken"])
def test_a_step_that_breaks_is_internal(client, bench, sent):
    status, message = refused(client, text_of(sent))
    assert status == "INTERNAL"
    assert "lost" not in message
    assert "internal error, reference" in message
    assert client.infer("m", [text_of(b"1 2 3")]).as_numpy("y").tolist() == [[6.0]]
    assert bench.usage.queued == 0


def test_whose_time_is_up_hears_so_then_and_is_not_read(client, bench, held):
    first = asked(client, b"1 2 3")
    until(held.begun.is_set)
    limited = {"parameters": {"latency_budget_ms": 150}}
    status, message = refused(client, text_of(b"4 5 6"), **limited)
    assert status == "DEADLINE_EXCEEDED"
    assert "the model's steps had not made its inputs within the 150 ms budget" in message
    held.gate.set()
    until(lambda: first)
    assert held.read == [b"1 2 3"]
    assert bench.telemetry.unanswered[-1].outcome is Outcome.EXPIRED
    assert bench.usage.queued == 0


def test_one_whose_time_is_up_while_it_is_read(client, bench, held):
    limited = {"parameters": {"latency_budget_ms": 150}}
    assert refused(client, text_of(b"1 2 3", b"4 5 6"), **limited)[0] == "DEADLINE_EXCEEDED"
    assert bench.usage.queued > 0
    held.gate.set()
    until(lambda: bench.usage.queued == 0)
    # The row that was begun, and none after it.
    assert held.read == [b"1 2 3"]
    assert bench.executor.runs == []


def test_who_has_left_is_not_read(bench, held):
    with triton.InferenceServerClient(bench.address) as busy:
        first = asked(busy, b"1 2 3")
        until(held.begun.is_set)
        with triton.InferenceServerClient(bench.address) as leaving:
            got: list[object] = []
            call = leaving.async_infer(
                "m", [text_of(b"4 5 6")], lambda result, error: got.append(error)
            )
            until(lambda: bench.usage.requests >= 2)
            call.cancel()
            until(lambda: bench.telemetry.unanswered)
        held.gate.set()
        until(lambda: first)
    assert held.read == [b"1 2 3"]
    assert bench.telemetry.unanswered[0].outcome is Outcome.CANCELLED
    assert bench.telemetry.unanswered[0].service_class == "default"
    assert bench.usage.queued == 0


def test_one_of_several_that_wait_leaves(bench, held):
    """Its place is passed over, and its bytes are given back once."""
    with triton.InferenceServerClient(bench.address) as client:
        got = [asked(client, b"0 0 0")]
        until(held.begun.is_set)
        call = client.async_infer("m", [text_of(b"1 0 0")], lambda result, error: None)
        until(lambda: bench.usage.requests >= 2)
        got += [asked(client, b"%d 0 0" % number) for number in (2, 3)]
        until(lambda: bench.usage.requests >= 4)
        call.cancel()
        until(lambda: bench.telemetry.unanswered)
        held.gate.set()
        until(lambda: all(got))
    assert held.read == [b"0 0 0", b"2 0 0", b"3 0 0"]
    assert bench.usage.queued == 0


def test_the_nearest_deadline_is_first(client, bench, held):
    first = asked(client, b"0 0 0")
    until(held.begun.is_set)
    waiting = [
        asked(client, sent, parameters={"latency_budget_ms": budget})
        for sent, budget in ((b"3 0 0", 19_000), (b"1 0 0", 9_000), (b"2 0 0", 14_000))
    ]
    until(lambda: bench.usage.requests >= 4)
    held.gate.set()
    until(lambda: first and all(waiting))
    assert held.read == [b"0 0 0", b"1 0 0", b"2 0 0", b"3 0 0"]


def test_pictures_of_one_model_do_not_hold_up_texts_of_another(make_bench):
    """Though the first has more than there are threads."""
    bench = make_bench(steps=steps())
    quick = Written()
    other = replace(bench.engine.catalog.models["other"], before=(quick,), generation=2)
    models = {**bench.engine.catalog.models, "other": other}

    async def exchange() -> None:
        for variant in other.variants:
            bench.executor.load(other, variant)
        catalog = Catalog(2, models)
        profiles = make_profiles(
            Catalog(2, {"other": other}), {"large": (0.002, 0.0), "small": (0.001, 0.0)}
        )
        bench.engine.exchange(catalog, profiles, lambda model: None)
        bench.server.follow(catalog)

    bench.run(exchange())
    step = step_of(bench)
    step.gate.clear()
    with triton.InferenceServerClient(bench.address) as client:
        got = [asked(client, b"1 2 3") for _ in range(4)]
        until(step.begun.is_set)
        answer = client.infer("other", [text_of(b"1 2 3")])
        assert answer.as_numpy("y").tolist() == [[6.0]]
        step.gate.set()
        until(lambda: all(got))


def test_a_model_that_is_exchanged_meanwhile_answers_all_the_same(bench, held):
    """By the steps and the network that are served then."""
    old = bench.engine.catalog.models["m"]
    new = replace(old, before=(Written(),), generation=2)

    async def exchange() -> None:
        for variant in new.variants:
            bench.executor.load(new, variant)
        catalog = Catalog(2, {**bench.engine.catalog.models, "m": new})
        profiles = make_profiles(
            Catalog(2, {"m": new}), {"large": (0.002, 0.0), "small": (0.001, 0.0)}
        )
        bench.engine.exchange(catalog, profiles, lambda model: None)
        bench.server.follow(catalog)

    with triton.InferenceServerClient(bench.address) as client:
        got = asked(client, b"1 2 3")
        until(held.begun.is_set)
        bench.run(exchange())
        held.gate.set()
        until(lambda: got)
        (answer,) = got
        assert answer.as_numpy("y").tolist() == [[6.0]]
    assert held.read == step_of(bench).read == [b"1 2 3"]
    assert bench.usage.queued == 0


def test_a_stream_answers_as_they_are_made(client, bench):
    got: list[object] = []
    client.start_stream(lambda result, error: got.append(error or result))
    for number in range(20):
        client.async_stream_infer("m", [text_of(b"%d 0 0" % number)], request_id=str(number))
    client.async_stream_infer("m", [text_of(b"1 2")], request_id="bad")
    until(lambda: len(got) == 21)
    client.stop_stream()
    answers = {a.get_response().id: a.as_numpy("y")[0, 0] for a in got if hasattr(a, "as_numpy")}
    assert answers == {str(number): float(number) for number in range(20)}
    until(lambda: bench.usage.requests == 0)


def test_a_stream_that_ends_takes_its_requests_along(bench, held):
    with triton.InferenceServerClient(bench.address) as client:
        client.start_stream(lambda result, error: None)
        client.async_stream_infer("m", [text_of(b"1 2 3")])
        until(held.begun.is_set)
        client.async_stream_infer("m", [text_of(b"4 5 6")])
        until(lambda: bench.usage.requests >= 3)  # the call itself is one
        client.stop_stream(cancel_requests=True)
        until(lambda: len(bench.telemetry.unanswered) == 2)
    held.gate.set()
    until(lambda: bench.usage.queued == 0)
    assert {each.outcome for each in bench.telemetry.unanswered} == {Outcome.CANCELLED}
    assert held.read == [b"1 2 3"]


def test_a_model_whose_variants_are_out_is_tried_through_its_steps(client, bench):
    """A breaker that no request may try would stay open for ever."""
    run_here = bench.executor.run_here

    def fails(*arguments: object) -> object:
        raise ExecutorFailed("broken")

    bench.executor.run_here = fails
    until(lambda: refused(client, text_of(b"1 2 3"))[0] == "UNAVAILABLE")
    bench.executor.run_here = run_here

    def answered() -> bool:
        try:
            return bool(client.infer("m", [text_of(b"1 2 3")]))
        except InferenceServerException:
            return False

    until(answered)


def test_a_request_that_gives_nothing_hears_what_is_on_the_wire(bench):
    with grpc.insecure_channel(bench.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(pb.ModelInferRequest(model_name="m"))
    assert "model 'm' takes written BYTES [rows, 1]" in caught.value.details()
