"""One span tree for each sampled request: what is in it, and whose child it is."""

from __future__ import annotations

import io
import json
import queue
import time
from itertools import pairwise

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from gearshift.telemetry import configure_logs
from gearshift.tracing import Share

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


def nested_and_ordered(collector, root):
    """Every child lies in its parent, and each after the one before."""
    children = collector.children(root)
    assert root.begin <= children[0].begin
    assert max(child.end for child in children) <= root.end
    for earlier, later in pairwise(children):
        assert earlier.end <= later.begin
    for span in (root, *children):
        assert span.begin <= span.end
        assert all(span.begin <= at <= span.end for at in span.events.values())
    return children


def test_the_tree_of_an_answered_request_follows_its_way(collector, traced, ask):
    before = time.time_ns()
    parameters = {"latency_budget_ms": 5000, "min_accuracy": 0.9}
    answer = ask(traced, rows=2, request_id="r1", headers=SAMPLED, parameters=parameters)
    told = answer.get_response().parameters
    (root,) = collector.roots(1)
    assert (root.name, root.trace_id, root.parent_id) == (
        "inference.GRPCInferenceService/ModelInfer",
        TRACE,
        PARENT,
    )
    assert before <= root.begin < root.end <= time.time_ns()
    decode, wait, run, encode = nested_and_ordered(collector, root)
    assert [s.name for s in (decode, wait, run, encode)] == ["decode", "queue", "run", "encode"]
    assert list(root.events) == ["received", "admitted", "settled"]
    assert list(root.events.values()) == [decode.begin, wait.begin, encode.begin]
    assert {s.trace_id for s in (decode, wait, run, encode)} == {TRACE}

    assert root.attributes | {"user_agent.original": ""} == {
        "rpc.system.name": "grpc",
        "rpc.method": root.name,
        "rpc.response.status_code": "OK",
        "user_agent.original": "",
        "gearshift.request_id": "r1",
        "gearshift.model": "m",
        "gearshift.service_class": "default",
        "gearshift.rows": 2,
        "gearshift.budget_us": 5_000_000,
        "gearshift.floor": 0.9,
        "gearshift.outcome": "served",
        "gearshift.variant": "large",
        "gearshift.accuracy": 0.95,
        "gearshift.reason": "most_accurate",
        "gearshift.batch.rows": 2,
        "gearshift.queue_us": told["queue_us"].int64_param,
        "gearshift.compute_us": told["compute_us"].int64_param,
    }
    assert "grpc" in root.attributes["user_agent.original"]
    assert not root.failed
    assert (run["variant"], run["device"], run["worker"]) == ("large", "cpu", 0)
    assert (run["batch.requests"], run["batch.rows"], run["predicted_us"]) == (1, 2, 2000)
    assert 0 < run["slack_us"] < 5_000_000
    assert run["slack_us"] == pytest.approx(5_000_000 - (run.begin - root.begin) / 1e3, abs=2)
    assert root.resource["service.name"] == "gearshift"
    assert {"service.version", "service.instance.id", "process.pid"} <= set(root.resource)


def test_a_batch_is_shared_by_its_members_traces(collector, make_traced, ask):
    lasts = {"large": (0.2, 0.0), "small": (0.2, 0.0)}
    bench = make_traced(duration=lambda variant, rows: 0.2, workers=1, predicted=lasts)
    address, numbers = bench.address, range(4)
    got: queue.Queue = queue.Queue()
    with triton.InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: got.put((result, error)))
        for number in numbers:
            tensor = triton.InferInput("x", [1, 3], "FP32")
            tensor.set_data_from_numpy(np.ones((1, 3), np.float32))
            client.async_stream_infer("m", [tensor], request_id=f"{number}")
            if number == 0:
                # It runs alone, and the others wait for the only worker.
                deadline = time.monotonic() + 10
                while not bench.executor.runs:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
        for _ in numbers:
            assert got.get(timeout=10)[1] is None
        client.stop_stream()
    roots = collector.roots(4)
    assert len({root.trace_id for root in roots}) == 4
    runs = {root["request_id"]: collector.children(root)[2] for root in roots}
    (link,) = runs["1"].links
    assert [runs[name].links for name in ("2", "3")] == [[link], [link]]
    assert runs["0"].links != [link]
    batch = collector.by_id(link[1])
    assert (batch.name, batch.parent_id, batch.trace_id) == ("batch m", "", link[0])
    assert batch.trace_id not in {root.trace_id for root in roots}
    assert set(batch.links) == {
        (run.trace_id, run.span_id) for name, run in runs.items() if name != "0"
    }
    assert (batch["batch.requests"], batch["batch.rows"]) == (3, 3)
    assert batch["batch.traced_requests"] == 3
    for name in ("1", "2", "3"):
        assert (runs[name].begin, runs[name].end) == pytest.approx(
            (batch.begin, batch.end), abs=5e7
        )
    assert list(batch.events) == ["assembled"]


def test_the_requests_of_a_stream_are_children_of_the_streams_caller(collector, traced):
    got: queue.Queue = queue.Queue()
    with triton.InferenceServerClient(traced.address) as client:
        client.start_stream(lambda result, error: got.put((result, error)), headers=SAMPLED)
        for number in range(3):
            tensor = triton.InferInput("x", [1, 3], "FP32")
            tensor.set_data_from_numpy(np.ones((1, 3), np.float32))
            client.async_stream_infer("m" if number else "nope", [tensor], request_id=f"{number}")
        for _ in range(3):
            got.get(timeout=10)
        client.stop_stream()
    roots = collector.roots(3)
    assert {(root.name, root.trace_id, root.parent_id) for root in roots} == {
        ("inference.GRPCInferenceService/ModelStreamInfer", TRACE, PARENT)
    }
    codes = {r["request_id"]: r.attributes["rpc.response.status_code"] for r in roots}
    assert codes == {"0": "NOT_FOUND", "1": "OK", "2": "OK"}


def test_who_is_refused_at_the_door_has_a_span_that_says_why(collector, traced, ask):
    refusals = {
        "INVALID_ARGUMENT": {"parameters": {"latency_budget": 1}},
        "NOT_FOUND": {"model": "nope"},
        "FAILED_PRECONDITION": {"parameters": {"latency_budget_ms": 0.1}},
    }
    for number, (code, options) in enumerate(refusals.items(), start=1):
        with pytest.raises(InferenceServerException) as refused:
            ask(traced, request_id=code, headers=SAMPLED, **options)
        root = collector.roots(number)[-1]
        assert root.attributes["rpc.response.status_code"] == code
        assert root["message"] == refused.value.message()
        assert root["request_id"] == code
        assert "refused" in root.events
        # By the conventions for gRPC it is the caller's fault, not an error of the server.
        assert not root.failed
        assert "error.type" not in root.attributes
        assert [child.name for child in collector.children(root)] == ["decode"]
    outcomes = [root["outcome"] for root in collector.roots(3)]
    assert outcomes == ["invalid", "invalid", "infeasible"]
    infeasible = collector.roots(3)[-1]
    assert (infeasible["budget_us"], infeasible["service_class"]) == (100, "default")
    assert infeasible["model"] == "m"


def test_bytes_that_are_no_request_are_traced_as_such(collector, traced):
    with grpc.insecure_channel(traced.address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError):
            call(b"\xff\xff", timeout=10, metadata=tuple(SAMPLED.items()))
    (root,) = collector.roots(1)
    assert root.attributes["rpc.response.status_code"] == "INVALID_ARGUMENT"
    assert "gearshift.request_id" not in root.attributes


def test_what_breaks_is_found_by_one_reference_everywhere(collector, traced, ask):
    log = io.StringIO()
    configure_logs(format="json", stream=log)

    def broken(*_):
        raise RuntimeError("secret cause")

    traced.executor.run_here = broken
    with pytest.raises(InferenceServerException) as failed:
        ask(traced, request_id="r7", headers=SAMPLED, parameters={"variant": "large"})
    (root,) = collector.roots(1)
    (line,) = [json.loads(each) for each in log.getvalue().splitlines()]
    assert failed.value.message() == f"internal error, reference {line['reference']}"
    assert root["reference"] == line["reference"]
    assert (root.failed, root.message) == (True, failed.value.message())
    assert root.attributes["error.type"] == "INTERNAL"
    assert root["outcome"] == "failed"
    assert (line["request_ids"], line["requests"]) == (["r7"], 1)
    batch = collector.by_id(line["span_id"])
    assert (batch.trace_id, batch.failed) == (line["trace_id"], True)
    assert batch.links == [(TRACE, collector.children(root)[2].span_id)]
    assert "secret" not in str(root) + str(batch)


def test_an_answer_that_cannot_be_written_is_logged_with_its_request(
    collector, traced, ask, monkeypatch
):
    log = io.StringIO()
    configure_logs(format="json", stream=log)

    def broken(*_):
        raise ValueError("no number")

    monkeypatch.setattr("gearshift.rpc.answers.to_raw", broken)
    with pytest.raises(InferenceServerException) as failed:
        ask(traced, request_id="r8")
    (root,) = collector.roots(1)
    (line,) = [json.loads(each) for each in log.getvalue().splitlines()]
    assert failed.value.message() == f"internal error, reference {line['reference']}"
    assert (line["request_id"], line["trace_id"]) == ("r8", root.trace_id)
    assert (line["span_id"], root["reference"]) == (root.span_id, line["reference"])
    assert [child.name for child in collector.children(root)] == ["decode", "queue", "run"]


def test_who_leaves_while_it_runs_has_a_span_until_then(collector, make_traced):
    bench = make_traced(duration=lambda variant, rows: 1.0)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(bench.address))
    request = pb.ModelInferRequest(model_name="m", id="left")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    request.raw_input_contents.append(np.ones(3, np.float32).tobytes())
    call = stub.ModelInfer.future(request, metadata=tuple(SAMPLED.items()))
    deadline = time.monotonic() + 10
    while not bench.executor.runs:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    call.cancel()
    (root,) = collector.roots(1)
    assert (root["outcome"], root.attributes["rpc.response.status_code"]) == (
        "cancelled",
        "CANCELLED",
    )
    assert not root.failed
    _, _, run = nested_and_ordered(collector, root)
    assert run.end == root.end
    assert run.end - run.begin < 1e9


def test_a_run_that_overruns_its_caller_is_an_error_of_the_server(collector, make_traced, ask):
    bench = make_traced(duration=lambda variant, rows: 0.5)
    with pytest.raises(InferenceServerException):
        ask(bench, headers=SAMPLED, parameters={"latency_budget_ms": 100, "variant": "large"})
    (root,) = collector.roots(1)
    assert (root["outcome"], root.failed) == ("late", True)
    assert root.attributes["error.type"] == "DEADLINE_EXCEEDED"
    _, _, run = nested_and_ordered(collector, root)
    assert run["slack_us"] > 0


def test_a_run_that_fails_and_the_second_chance_lie_one_after_the_other(collector, traced, ask):
    answers = traced.executor.run_here

    def broken(model, variant, inputs):
        if variant.name == "large":
            raise RuntimeError("broken")
        return answers(model, variant, inputs)

    traced.executor.run_here = broken
    ask(traced, headers=SAMPLED)
    (root,) = collector.roots(1)
    assert (root["outcome"], root["variant"], root["reason"]) == ("served", "small", "fallback")
    children = nested_and_ordered(collector, root)
    assert [child.name for child in children] == [
        *("decode", "queue", "run", "queue", "run", "encode")
    ]
    assert [child["stage"] for child in children[1:5]] == ["first", "first", "again", "again"]
    assert root.events["second_chance"]


def test_who_waits_in_vain_has_a_queue_and_no_run(collector, make_traced, ask):
    """The server drains while it waits for the only worker."""
    bench = make_traced(duration=lambda variant, rows: 3.0, workers=1)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(bench.address))
    calls = []
    for name in ("runs", "waits"):
        request = pb.ModelInferRequest(model_name="m", id=name)
        request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
        request.raw_input_contents.append(np.ones(3, np.float32).tobytes())
        calls.append(stub.ModelInfer.future(request, metadata=tuple(SAMPLED.items())))
        deadline = time.monotonic() + 10
        while not bench.executor.runs:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    while bench.telemetry.queued["m", "default"] < 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    bench.run(bench.engine.drain(0.0))
    roots = {root["request_id"]: root for root in collector.roots(2)}
    for root in roots.values():
        assert root.attributes["rpc.response.status_code"] == "UNAVAILABLE"
    assert [c.name for c in nested_and_ordered(collector, roots["waits"])] == ["decode", "queue"]
    ran = [c.name for c in nested_and_ordered(collector, roots["runs"])]
    assert ran == ["decode", "queue", "run"]


def test_what_nobody_expected_while_it_is_read_is_traced_and_logged(
    collector, traced, ask, monkeypatch
):
    log = io.StringIO()
    configure_logs(format="json", stream=log)

    def broken(*_):
        raise RuntimeError("secret cause")

    monkeypatch.setattr("gearshift.rpc.codec.decode", broken)
    with pytest.raises(InferenceServerException) as failed:
        ask(traced, request_id="r9", headers=SAMPLED)
    (root,) = collector.roots(1)
    (line,) = [json.loads(each) for each in log.getvalue().splitlines()]
    assert failed.value.message() == f"internal error, reference {line['reference']}"
    assert (line["request_id"], line["trace_id"], line["span_id"]) == ("r9", TRACE, root.span_id)
    assert (root["reference"], root["outcome"]) == (line["reference"], "failed")
    assert (root["request_id"], root.failed) == ("r9", True)
    assert "secret" not in str(root)


def test_which_model_a_request_is_for_may_decide(collector, traced, ask):
    """Of unary calls and of streams."""
    traced.engine.traced.tracing.sample(Share(False, None), {"m": Share(True, 1.0)})
    for model in ("m", "other"):
        ask(traced, model=model, request_id=f"unary-{model}")
        answers: queue.Queue = queue.Queue()
        tensor = triton.InferInput("x", [1, 3], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 3), np.float32))
        with triton.InferenceServerClient(traced.address) as client:
            client.start_stream(lambda result, error, answers=answers: answers.put(error))
            client.async_stream_infer(model, [tensor], request_id=f"stream-{model}")
            assert answers.get(timeout=10.0) is None
    roots = collector.roots(2)
    assert {root["request_id"] for root in roots} == {"unary-m", "stream-m"}
    assert {root["model"] for root in roots} == {"m"}
