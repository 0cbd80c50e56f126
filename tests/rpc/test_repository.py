"""Loading and unloading as stock clients ask for it, and what of a server follows a catalog."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from builders import make_catalog, make_profiles
from gearshift.core.catalog import Signature, TensorSpec
from gearshift.errors import LoadFailed, ModelNotFound, Overloaded

SERVING, NOT_SERVING, UNKNOWN = 1, 2, 3


class Folders:
    """Fills `gearshift.ports.Repository`."""

    def __init__(self):
        self.asked = []
        self.error = None

    async def load(self, model, who):
        self.asked.append(("load", model, who))
        if self.error is not None:
            raise self.error

    async def unload(self, model, who):
        self.asked.append(("unload", model, who))

    async def unserved(self):
        return {"old": "unloaded", "m": "loaded in the meantime"}


@pytest.fixture
def folders():
    return Folders()


@pytest.fixture
def asked(make_bench, folders):
    bench = make_bench(repository=folders)
    with triton.InferenceServerClient(bench.address) as client:
        yield client


def status_of(call) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as failed:
        call()
    return failed.value.status(), failed.value.message()


def test_stock_clients_load_and_unload(asked, folders):
    asked.load_model("m")
    asked.unload_model("m")
    asked.unload_model("m", unload_dependents=True)
    assert folders.asked == [
        ("load", "m", "anonymous"),
        ("unload", "m", "anonymous"),
        ("unload", "m", "anonymous"),
    ]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ModelNotFound("no folder"), "NOT_FOUND"),
        (LoadFailed("m/model.toml: wrong"), "FAILED_PRECONDITION"),
        (Overloaded("64 wait", 1.0), "RESOURCE_EXHAUSTED"),
    ],
)
def test_what_fails_has_its_status_and_every_reason(asked, folders, error, status):
    folders.error = error
    assert status_of(lambda: asked.load_model("m")) == (f"StatusCode.{status}", str(error))


def test_an_unexpected_error_shows_no_internals(asked, folders):
    folders.error = RuntimeError("secret")
    status, message = status_of(lambda: asked.load_model("m"))
    assert status == "StatusCode.INTERNAL"
    assert message.startswith("internal error, reference ")


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"config": "{}"}, "'config' is not served"),
        ({"config": "{}", "files": {"file:1/model.onnx": b"x"}}, "is not served"),
    ],
)
def test_overrides_are_refused(asked, folders, given, what):
    status, message = status_of(lambda: asked.load_model("m", **given))
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert what in message
    assert folders.asked == []


def test_other_mistakes_of_callers(asked, folders, make_bench):
    assert status_of(lambda: asked.load_model(""))[0] == "StatusCode.INVALID_ARGUMENT"
    assert status_of(lambda: asked.unload_model(""))[0] == "StatusCode.INVALID_ARGUMENT"
    stub = service_pb2_grpc.GRPCInferenceServiceStub(asked._channel)
    with pytest.raises(grpc.RpcError) as failed:
        stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(repository_name="x", model_name="m"))
    assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED
    unknown = pb.RepositoryModelUnloadRequest(model_name="m")
    unknown.parameters["nonsense"].bool_param = True
    with pytest.raises(grpc.RpcError, match="there is unload_dependents"):
        stub.RepositoryModelUnload(unknown)
    assert folders.asked == []


def test_the_index_lists_folders_that_are_not_served(asked):
    index = asked.get_model_repository_index()
    assert [(m.name, m.version, m.state, m.reason) for m in index.models] == [
        ("m", "1", "READY", ""),
        ("m", "2", "READY", ""),
        ("other", "1", "READY", ""),
        ("other", "2", "READY", ""),
        ("old", "", "UNAVAILABLE", "unloaded"),
    ]


def test_where_nothing_can_be_loaded_the_methods_say_so(client):
    assert status_of(lambda: client.load_model("m"))[0] == "StatusCode.UNIMPLEMENTED"
    assert status_of(lambda: client.unload_model("m"))[0] == "StatusCode.UNIMPLEMENTED"
    assert len(client.get_model_repository_index().models) == 4


# --- following another catalog -------------------------------------------------------------

WIDER = Signature((TensorSpec("x", "FP32", (4,)),), (TensorSpec("z", "FP32", (1,)),))


def message(width: int) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="m", id="same")
    request.inputs.add(name="x", datatype="FP32", shape=[1, width])
    request.raw_input_contents.append(np.ones((1, width), np.float32).tobytes())
    return request


def exchange(bench, *models):
    """As `gearshift.app.exchanging` does it."""

    async def now():
        catalog = make_catalog(*models)
        new = make_catalog(*(model for model in models if model.generation > 1))
        profiles = make_profiles(new, {"large": (0.002, 0.0), "small": (0.001, 0.0)})
        for model in new.models.values():
            for variant in model.variants:
                bench.executor.load(model, variant)
        bench.engine.exchange(catalog, profiles, bench.server.forget)
        bench.server.follow(catalog)

    bench.run(now())


def test_a_shape_that_was_learned_of_another_signature_is_forgotten(make_bench):
    """The bytes of a request do not say which generation they were meant for."""
    bench = make_bench()
    old = bench.catalog.models["m"]
    with grpc.insecure_channel(bench.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _ in range(3):
            assert stub.ModelInfer(message(3), timeout=5).outputs[0].name == "y"
        bench.executor._signature = WIDER
        exchange(bench, replace(old, generation=2, signature=WIDER), bench.catalog.models["other"])
        with pytest.raises(grpc.RpcError, match=r"expected \[rows, 4\]"):
            stub.ModelInfer(message(3), timeout=5)
        for _ in range(3):
            assert stub.ModelInfer(message(4), timeout=5).outputs[0].name == "z"


def test_health_follows(make_bench):
    bench = make_bench()
    m, other = bench.catalog.models["m"], bench.catalog.models["other"]
    with grpc.insecure_channel(bench.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="m"), timeout=20)
        assert next(watch).status == SERVING
        added = replace(other, name="added", generation=2)
        exchange(bench, other, added)
        seen = [next(watch).status]
        if seen[-1] == NOT_SERVING:
            seen.append(next(watch).status)
        # A watcher may miss what was true for a moment only, never the end.
        assert seen[-1] == UNKNOWN
        watch.cancel()

        def check(name):
            return stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status

        assert (check("other"), check("added"), check("")) == (SERVING,) * 3
        with pytest.raises(grpc.RpcError) as failed:
            check("m")
        assert failed.value.code() is grpc.StatusCode.NOT_FOUND
        exchange(bench, replace(m, generation=3), other, added)
        assert check("m") == SERVING
        bench.run(asyncio.wait_for(bench.server.not_serving(), 5))
        assert (check("m"), check("added")) == (NOT_SERVING,) * 2
