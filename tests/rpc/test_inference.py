"""The service through the stock client: what it answers, and the status of each mistake."""

from __future__ import annotations

import asyncio
import random
import time

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from builders import make_model
from gearshift.core.catalog import ServiceClass
from gearshift.core.lane import Away
from gearshift.core.limits import Limits
from gearshift.errors import ConfigurationInvalid
from gearshift.rpc import describe, serve
from gearshift.rpc.inference import InferenceServicer


def tensor(rows=1, value=1.0, name="x", dtype=np.float32, width=3):
    made = triton.InferInput(name, [rows, width], triton_name(dtype))
    made.set_data_from_numpy(np.full((rows, width), value, dtype))
    return made


def triton_name(dtype):
    return {np.float32: "FP32", np.float64: "FP64"}[dtype]


def status_of(call, *arguments, **options):
    with pytest.raises(InferenceServerException) as caught:
        call(*arguments, **options)
    return caught.value.status().removeprefix("StatusCode."), caught.value.message()


def stub_of(bench):
    return service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(bench.address))


def test_inference_names_variant_and_accuracy(client):
    response = client.infer("m", [tensor(2, 5.0)], request_id="abc")
    assert response.as_numpy("y").tolist() == [[15.0], [15.0]]
    told = response.get_response()
    assert told.id == "abc"
    assert told.model_version == "1"
    assert told.parameters["variant"].string_param == "large"
    assert told.parameters["accuracy"].double_param == 0.95


def test_every_response_has_an_id_of_its_own(client):
    ids = {client.infer("m", [tensor()]).get_response().id for _ in range(3)}
    assert len(ids) == 3
    assert all(ids)


def test_live_ready_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("m")
    assert client.is_model_ready("m", "2")
    metadata = client.get_server_metadata()
    assert metadata.name == "gearshift"
    assert "statistics" in metadata.extensions
    model = client.get_model_metadata("m", "1")
    assert list(model.versions) == ["1", "2"]
    assert [(t.name, t.datatype, list(t.shape)) for t in model.inputs] == [("x", "FP32", [-1, 3])]
    config = client.get_model_config("m").config
    assert config.max_batch_size == 8
    assert list(config.input[0].dims) == [3]
    assert config.parameters["variant.2"].string_value == "small"


def test_priorities_of_classes_are_levels_in_the_configuration():
    classes = (
        ServiceClass("patient", budget=1.0, priority=4),
        ServiceClass("urgent", budget=0.01, priority=1),
        ServiceClass("open", priority=2),
        ServiceClass("other", budget=2.0),
    )
    batching = describe.config(make_model(classes=classes)).config.dynamic_batching
    assert (batching.priority_levels, batching.default_priority_level) == (4, 4)
    budgets = {
        level: policy.default_timeout_microseconds
        for level, policy in batching.priority_queue_policy.items()
    }
    assert budgets == {1: 10_000, 4: 1_000_000}
    assert describe.config(make_model()).config.dynamic_batching.priority_levels == 0


def test_unknown_models_and_versions_have_tritons_status(client):
    assert not client.is_model_ready("nope")
    assert not client.is_model_ready("m", "9")
    for call in (client.get_model_metadata, client.get_model_config):
        assert status_of(call, "nope")[0] == "NOT_FOUND"
        assert status_of(call, "m", "9")[0] == "NOT_FOUND"
        assert status_of(call, "m", "abc")[0] == "INVALID_ARGUMENT"
    assert status_of(client.is_model_ready, "m", "abc")[0] == "INVALID_ARGUMENT"
    assert status_of(client.infer, "nope", [tensor()])[0] == "NOT_FOUND"
    assert status_of(client.infer, "m", [tensor()], model_version="9")[0] == "NOT_FOUND"
    assert status_of(client.infer, "m", [tensor()], model_version="abc")[0] == "INVALID_ARGUMENT"
    assert status_of(client.get_inference_statistics, "nope")[0] == "INVALID_ARGUMENT"


def test_statistics_of_all_models_without_a_name(client):
    both = client.get_inference_statistics().model_stats
    assert {(s.name, s.version) for s in both} == {
        ("m", "1"),
        ("m", "2"),
        ("other", "1"),
        ("other", "2"),
    }
    one = client.get_inference_statistics("m", "2").model_stats
    assert [(s.name, s.version) for s in one] == [("m", "2")]


def test_the_index_lists_every_variant(client):
    index = client.get_model_repository_index().models
    assert [(m.name, m.version, m.state) for m in index] == [
        ("m", "1", "READY"),
        ("m", "2", "READY"),
        ("other", "1", "READY"),
        ("other", "2", "READY"),
    ]


def test_what_is_not_loaded_is_not_ready_but_its_model_is(make_bench):
    bench = make_bench()

    def away(*variants):
        async def reside():
            profiles = [p for p in bench.engine.profiles("m") if p.variant.name in variants]
            bench.engine.reside("m", Away(absent=frozenset(profiles)))

        bench.run(reside())

    with triton.InferenceServerClient(bench.address) as client:
        away("large")
        assert client.is_model_ready("m")
        assert not client.is_model_ready("m", "1")
        assert client.is_model_ready("m", "2")
        index = client.get_model_repository_index().models
        states = {(m.name, m.version): (m.state, m.reason.partition(":")[0]) for m in index}
        assert states["m", "1"] == ("UNAVAILABLE", "not_resident")
        assert states["m", "2"] == states["other", "1"] == ("READY", "")
        away("large", "small")
        assert not client.is_model_ready("m")
        assert client.is_model_ready("other")
        away()
        assert client.is_model_ready("m", "1")


@pytest.mark.parametrize(
    ("inputs", "options", "status"),
    [
        ([tensor(name="z")], {}, "INVALID_ARGUMENT"),
        ([tensor(dtype=np.float64)], {}, "INVALID_ARGUMENT"),
        ([tensor(width=4)], {}, "INVALID_ARGUMENT"),
        ([tensor(rows=9)], {}, "INVALID_ARGUMENT"),
        ([tensor(rows=0)], {}, "INVALID_ARGUMENT"),
        ([], {}, "INVALID_ARGUMENT"),
        ([tensor(), tensor()], {}, "INVALID_ARGUMENT"),
        ([tensor()], {"outputs": [triton.InferRequestedOutput("w")]}, "INVALID_ARGUMENT"),
        ([tensor()], {"parameters": {"bogus": 1}}, "INVALID_ARGUMENT"),
        ([tensor()], {"parameters": {"latency_budget_ms": 0}}, "INVALID_ARGUMENT"),
        ([tensor()], {"parameters": {"service_class": "vip"}}, "INVALID_ARGUMENT"),
        ([tensor()], {"parameters": {"variant": "huge"}}, "NOT_FOUND"),
        ([tensor()], {"parameters": {"min_accuracy": 0.99}}, "FAILED_PRECONDITION"),
        ([tensor()], {"parameters": {"latency_budget_ms": 0.5}}, "FAILED_PRECONDITION"),
        ([tensor()], {"timeout": 100}, "FAILED_PRECONDITION"),
    ],
)
def test_the_status_of_each_mistake(client, inputs, options, status):
    told, message = status_of(client.infer, "m", inputs, **options)
    assert told == status
    assert message
    assert client.infer("m", [tensor()]).as_numpy("y").tolist() == [[3.0]]


def test_tritons_priority_and_timeout_are_taken(client):
    response = client.infer("m", [tensor()], priority=3, timeout=5_000_000)
    assert response.get_response().parameters["budget_us"].int64_param == 5_000_000


@pytest.mark.parametrize("name", ["timeout", "priority", "triton_bogus"])
def test_tritons_parameters_of_a_wrong_type_are_refused(bench, name):
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    message.raw_input_contents.append(bytes(12))
    message.parameters[name].string_param = "soon"
    with pytest.raises(grpc.RpcError) as caught:
        stub_of(bench).ModelInfer(message)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_typed_contents_over_the_wire(bench):
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype="FP32", shape=[2, 3])
    message.inputs[0].contents.fp32_contents.extend(range(6))
    response = stub_of(bench).ModelInfer(message)
    assert np.frombuffer(response.raw_output_contents[0], np.float32).tolist() == [3.0, 12.0]


def test_every_method_of_the_protocol_is_ours():
    """What generated code would answer with is UNIMPLEMENTED without a word."""
    generated = service_pb2_grpc.GRPCInferenceServiceServicer
    methods = {each.name for each in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods}
    ours = {
        name for name in methods if getattr(InferenceServicer, name) != getattr(generated, name)
    }
    assert methods - ours == {"ModelInfer", "ModelStreamInfer"}  # a way of their own


def test_health_per_model_and_overall(bench):
    stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(bench.address))
    for service in ("", "m", "other", "live", "inference.GRPCInferenceService"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="nope"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_draining_server_is_live_but_not_ready(make_bench):
    bench = make_bench()
    stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(bench.address))
    bench.run(bench.server.not_serving())
    bench.run(bench.engine.drain(1.0))
    told = {
        service: stub.Check(health_pb2.HealthCheckRequest(service=service)).status
        for service in ("", "m", "live")
    }
    assert told == {"": 2, "m": 2, "live": 1}
    with triton.InferenceServerClient(bench.address) as client:
        assert client.is_server_live()
        assert not client.is_server_ready()
        assert not client.is_model_ready("m")
        assert status_of(client.infer, "m", [tensor()])[0] == "UNAVAILABLE"
        assert [m.state for m in client.get_model_repository_index().models] == ["UNAVAILABLE"] * 4


def test_reflection_lists_the_services(bench):
    stub = reflection_pb2_grpc.ServerReflectionStub(grpc.insecure_channel(bench.address))
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(iter([asked]))
    names = {service.name for service in answer.list_services_response.service}
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names


def test_messages_above_4_mib_pass_and_above_the_limit_do_not(make_bench):
    bench = make_bench()
    channel = grpc.insecure_channel(bench.address, options=[("grpc.max_send_message_length", -1)])
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    message = pb.ModelInferRequest(model_name="m")
    message.raw_input_contents.append(bytes(5 * 1024 * 1024))
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(message)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    message.raw_input_contents.append(bytes(Limits().max_message_bytes))
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(message)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_failing_backend_hides_its_text(make_bench):
    bench = make_bench()

    def breaking(*arguments):
        raise RuntimeError("password=hunter2")

    bench.executor.run = breaking
    with triton.InferenceServerClient(bench.address) as client:
        status, message = status_of(client.infer, "m", [tensor()])
    assert status == "INTERNAL"
    assert "hunter2" not in message
    assert "reference" in message


def test_a_bug_of_ours_hides_its_text_too(make_bench):
    bench = make_bench()

    def breaking(*arguments):
        raise ZeroDivisionError("at secret.py")

    bench.engine.submit = breaking
    with triton.InferenceServerClient(bench.address) as client:
        status, message = status_of(client.infer, "m", [tensor()])
    assert (status, "secret" in message, "reference" in message) == ("INTERNAL", False, True)


def test_overload_says_when_to_come_back(make_bench):
    bench = make_bench(
        predicted={"large": (0, 0.2), "small": (0, 0.2)},
        duration=lambda variant, rows: 0.2,
        workers=1,
        max_batch_size=1,
    )
    stub = stub_of(bench)
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    message.raw_input_contents.append(bytes(12))
    message.parameters["latency_budget_ms"].int64_param = 500
    calls = [stub.ModelInfer.future(message) for _ in range(12)]
    refused = [call.exception() for call in calls if call.exception()]
    assert refused
    for error in refused:
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        (detail,) = rpc_status.from_call(error).details
        info = error_details_pb2.RetryInfo()
        assert detail.Unpack(info)
        assert 0 < info.retry_delay.ToTimedelta().total_seconds() < 5


def test_ten_requests_that_cannot_make_it_cost_nothing(make_bench):
    """What Triton executes ten times for nobody, and MLServer once."""
    bench = make_bench(
        predicted={"large": (0.5, 0.0), "small": (0.5, 0.0)}, duration=lambda v, r: 0.5, workers=1
    )
    stub = stub_of(bench)
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    message.raw_input_contents.append(bytes(12))
    begun = time.perf_counter()
    calls = [stub.ModelInfer.future(message, timeout=0.3) for _ in range(10)]
    codes = {call.exception().code() for call in calls}
    assert time.perf_counter() - begun < 0.3
    assert codes == {grpc.StatusCode.FAILED_PRECONDITION}
    assert bench.executor.runs == []


def test_a_thousand_cancellations_in_the_middle_of_batches(make_bench):
    rng = random.Random(3)
    bench = make_bench(duration=lambda variant, rows: rng.uniform(0.0005, 0.003))

    async def storm():
        async with grpc.aio.insecure_channel(bench.address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            places = asyncio.Semaphore(64)

            async def one(index):
                message = pb.ModelInferRequest(model_name="m", id=str(index))
                message.inputs.add(name="x", datatype="FP32", shape=[1, 3])
                message.raw_input_contents.append(np.full(3, index, np.float32).tobytes())
                async with places:
                    call = stub.ModelInfer(message, timeout=20)
                    if index % 2:
                        await asyncio.sleep(rng.uniform(0, 0.004))
                        call.cancel()
                    try:
                        response = await call
                    except asyncio.CancelledError:
                        return "cancelled"
                (value,) = np.frombuffer(response.raw_output_contents[0], np.float32)
                assert value == 3.0 * index
                return "answered"

            return await asyncio.gather(*(one(index) for index in range(2000)))

    ends = asyncio.run(storm())
    assert all(end == "answered" for end in ends[::2])
    assert ends.count("cancelled") > 100
    deadline = time.monotonic() + 5
    while len(bench.telemetry.settleds) < 2000 and time.monotonic() < deadline:
        time.sleep(0.01)
    outcomes = bench.telemetry.outcomes()
    assert outcomes["served"] >= ends.count("answered")
    assert set(outcomes) <= {"served", "cancelled"}
    assert sum(bench.telemetry.queued.values()) == 0


async def test_a_taken_port_is_a_clear_error(bench):
    with pytest.raises(ConfigurationInvalid, match=f"{bench.server.port}.*--grpc-port"):
        await serve(bench.engine, "127.0.0.1", bench.server.port)
