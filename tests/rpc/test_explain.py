"""Explain over the wire: what would be chosen, what would be refused, and no trace of it."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from gearshift.v1 import gearshift_pb2 as pb
from gearshift.v1 import gearshift_pb2_grpc


@pytest.fixture
def explain(bench):
    with grpc.insecure_channel(bench.address) as channel:
        stub = gearshift_pb2_grpc.GearshiftStub(channel)
        yield lambda **wishes: stub.Explain(pb.ExplainRequest(**wishes), timeout=10)


def verdicts(response):
    name = pb.Candidate.Verdict.Name
    return {c.name: name(c.verdict).removeprefix("VERDICT_") for c in response.candidates}


def test_what_would_be_chosen(explain):
    told = explain(model="m")
    assert (told.model, told.service_class, told.budget_ms) == ("m", "default", 20_000.0)
    assert (told.chosen, told.reason) == ("large", "most_accurate")
    assert (told.refused_status, told.refused_message) == ("", "")
    large, small = told.candidates
    assert (large.name, large.version, large.accuracy) == ("large", 1, 0.95)
    assert large.accuracy_source == "declared"
    assert large.wait_ms == 0.0
    assert 0.0 < small.p50_ms <= small.p99_ms < large.p99_ms
    assert large.why
    assert verdicts(told) == {"large": "CHOSEN", "small": "BETTER_CHOSEN"}


def test_wishes_count_as_in_a_request(explain):
    told = explain(model="m", latency_budget_ms=1.5)
    assert (told.chosen, told.reason, told.budget_ms) == ("small", "budget", 1.5)
    assert verdicts(told) == {"large": "TOO_SLOW", "small": "CHOSEN"}
    told = explain(model="m", min_accuracy=0.9)
    assert (told.floor, verdicts(told)["small"]) == (0.9, "BELOW_FLOOR")
    told = explain(model="m", variant="small", rows=3)
    assert (told.chosen, told.reason) == ("small", "pinned")
    told = explain(model="m", service_class="archive")
    assert (told.service_class, told.HasField("budget_ms")) == ("archive", False)


def test_what_would_be_refused_is_an_answer(explain):
    told = explain(model="m", min_accuracy=0.99)
    assert (told.chosen, told.reason) == ("", "")
    assert told.refused_status == "FAILED_PRECONDITION"
    assert "no variant of model 'm' reaches the floor 0.9900" in told.refused_message
    told = explain(model="m", latency_budget_ms=0.01)
    assert told.refused_status == "FAILED_PRECONDITION"
    assert set(verdicts(told).values()) == {"TOO_SLOW"}


@pytest.mark.parametrize(
    ("wishes", "code", "part"),
    [
        ({"model": "none"}, "NOT_FOUND", "no model 'none'"),
        ({"model": "m", "variant": "none"}, "NOT_FOUND", "no variant 'none'"),
        ({"model": "m", "service_class": "none"}, "INVALID_ARGUMENT", "no class 'none'"),
        ({"model": "m", "latency_budget_ms": 0.0}, "INVALID_ARGUMENT", "above 0 milliseconds"),
        ({"model": "m", "latency_budget_ms": float("nan")}, "INVALID_ARGUMENT", "finite"),
        ({"model": "m", "min_accuracy": -1.0}, "INVALID_ARGUMENT", "0 or more"),
        ({"model": "m", "rows": 9}, "INVALID_ARGUMENT", "9 rows; model 'm' takes 1 to 8"),
        ({"model": "m", "rows": -1}, "INVALID_ARGUMENT", "takes 1 to 8"),
    ],
)
def test_what_is_wrong_is_refused_as_in_a_request(explain, wishes, code, part):
    with pytest.raises(grpc.RpcError) as caught:
        explain(**wishes)
    assert caught.value.code().name == code
    assert part in caught.value.details()


def test_it_is_no_traffic(make_bench):
    bench = make_bench()
    with grpc.insecure_channel(bench.address) as channel:
        stub = gearshift_pb2_grpc.GearshiftStub(channel)
        for wishes in ({"model": "m"}, {"model": "m", "min_accuracy": 0.99}):
            stub.Explain(pb.ExplainRequest(**wishes), timeout=10)
        with pytest.raises(grpc.RpcError):
            stub.Explain(pb.ExplainRequest(model="none"), timeout=10)
    assert bench.telemetry.settleds == []
    assert not bench.telemetry.queued


def test_the_real_request_is_answered_as_was_explained(make_bench):
    bench = make_bench()
    with (
        grpc.insecure_channel(bench.address) as channel,
        triton.InferenceServerClient(bench.address) as client,
    ):
        told = gearshift_pb2_grpc.GearshiftStub(channel).Explain(
            pb.ExplainRequest(model="m", variant="small"), timeout=10
        )
        tensor = triton.InferInput("x", [1, 3], "FP32")
        tensor.set_data_from_numpy(np.zeros((1, 3), np.float32))
        answer = client.infer("m", [tensor], parameters={"variant": "small"}).get_response()
    assert answer.parameters["variant"].string_param == told.chosen
    assert answer.parameters["reason"].string_param == told.reason
