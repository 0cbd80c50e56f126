"""Every method of tritonclient's four clients as they stand, against a real server."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import queue
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http_client
import tritonclient.http.aio as http_aio
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

from onnx_models import row_sum
from serving import start, stop

KINDS = {
    "gRPC": grpc_client,
    "gRPC, asyncio": grpc_aio,
    "HTTP": http_client,
    "HTTP, asyncio": http_aio,
}
ROWS = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
SUMS = [[6.0], [15.0]]
REFUSED = "refused"

MODEL = """
metric = "top1"
max_batch_size = 4
default_class = "patient"

[classes.patient]
budget_ms = 20000
priority = 2

[classes.urgent]
budget_ms = 10000
priority = 1

[[variants]]
name = "only"
version = 1
executor = "onnx"
accuracy = 0.9
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("stock")
    row_sum(root / "repo" / "sums" / "only" / "model.onnx")
    (root / "repo" / "sums" / "model.toml").write_text(MODEL)
    running = start("--repository", str(root / "repo"), "--state-dir", str(root / "state"))
    yield running
    assert stop(running) == 0


def rows(kind: Any) -> Any:
    made = kind.InferInput("x", [2, 3], "FP32")
    made.set_data_from_numpy(ROWS)
    return made


def sums(answer: Any) -> Any:
    return answer.as_numpy("y").tolist()


def service_class(answer: Any) -> str:
    told = answer.get_response()
    if isinstance(told, dict):
        return str(told["parameters"]["service_class"])
    return str(told.parameters["service_class"].string_param)


def field(told: Any, *names: Any) -> Any:
    """Of a message, or of the JSON that says the same."""
    for name in names:
        told = told[name] if isinstance(told, dict | list) else getattr(told, name)
    return told


async def settled(found: Any) -> Any:
    return await found if inspect.isawaitable(found) else found


async def refused(found: Callable[[], Any]) -> str:
    with pytest.raises(InferenceServerException):
        await settled(found())
    return REFUSED


async def inferred(client: Any, kind: Any) -> Any:
    answer = await settled(client.infer("sums", [rows(kind)]))
    hurried = await settled(client.infer("sums", [rows(kind)], priority=1, timeout=5_000_000))
    return sums(answer), service_class(answer), service_class(hurried)


async def inferred_later(client: Any, kind: Any) -> Any:
    if kind is http_client:
        return sums(client.async_infer("sums", [rows(kind)]).get_result())
    found: queue.Queue[Any] = queue.Queue()
    client.async_infer("sums", [rows(kind)], lambda result, error: found.put((result, error)))
    answer, error = found.get(timeout=30)
    assert error is None
    return sums(answer)


async def streamed(client: Any, kind: Any) -> Any:
    if kind is grpc_aio:

        async def asked():
            for number in range(3):
                yield {"model_name": "sums", "inputs": [rows(kind)], "request_id": str(number)}

        return [sums(answer) async for answer, error in client.stream_infer(asked())]
    found: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: found.put((result, error)))
    for number in range(3):
        client.async_stream_infer("sums", [rows(kind)], request_id=str(number))
    told = [found.get(timeout=30) for _ in range(3)]
    client.stop_stream()
    assert all(error is None for _, error in told)
    return [sums(answer) for answer, _ in told]


NUMBERS = itertools.count()


async def shared(client: Any, kind: Any) -> Any:
    """A tensor that lies in shared memory, from registering it to giving it back."""
    name = f"gearshift_stock_{next(NUMBERS)}"
    region = shm.create_shared_memory_region(name, f"/{name}", ROWS.nbytes)
    try:
        shm.set_shared_memory_region(region, [ROWS])
        await settled(client.register_system_shared_memory(name, f"/{name}", ROWS.nbytes))
        told = await settled(client.get_system_shared_memory_status(name))
        listed = [each["name"] for each in told] if isinstance(told, list) else list(told.regions)
        tensor = kind.InferInput("x", [2, 3], "FP32")
        tensor.set_shared_memory(name, ROWS.nbytes)
        answer = await settled(client.infer("sums", [tensor]))
        await settled(client.unregister_system_shared_memory(name))
        return listed == [name], sums(answer)
    finally:
        shm.destroy_shared_memory_region(region)


async def settings(client: Any, kind: Any) -> Any:
    await settled(client.update_log_settings({"log_info": False}))
    told = await settled(client.get_log_settings())
    await settled(client.update_log_settings({"log_info": True}))
    log = told if isinstance(told, dict) else told.settings["log_info"].bool_param
    return log["log_info"] if isinstance(log, dict) else log


async def traces(client: Any, kind: Any) -> Any:
    await settled(client.update_trace_settings("", {"trace_rate": "7"}))
    told = await settled(client.get_trace_settings("sums"))
    await settled(client.update_trace_settings("", {"trace_rate": None}))
    if isinstance(told, dict):
        return told["trace_rate"], told["trace_level"]
    return told.settings["trace_rate"].value[0], list(told.settings["trace_level"].value)


async def bodies(client: Any, kind: Any) -> Any:
    body, length = kind.InferenceServerClient.generate_request_body([rows(kind)])
    return len(body) - length


Call = Callable[[Any, Any], Any]
CALLS: dict[str, tuple[tuple[str, ...], Call, Any]] = {
    "live": (("is_server_live",), lambda c, k: c.is_server_live(), True),
    "ready": (("is_server_ready",), lambda c, k: c.is_server_ready(), True),
    "model ready": (("is_model_ready",), lambda c, k: c.is_model_ready("sums", "1"), True),
    "server metadata": (
        ("get_server_metadata",),
        lambda c, k: c.get_server_metadata(),
        lambda told: field(told, "name") == "gearshift" and "trace" in field(told, "extensions"),
    ),
    "model metadata": (
        ("get_model_metadata",),
        lambda c, k: c.get_model_metadata("sums"),
        lambda told: list(field(told, "versions")) == ["1"],
    ),
    "model configuration": (
        ("get_model_config",),
        lambda c, k: c.get_model_config("sums"),
        lambda told: (
            field(told if isinstance(told, dict) else told.config, "dynamic_batching")
            and field(
                told if isinstance(told, dict) else told.config,
                "dynamic_batching",
                "default_priority_level",
            )
            == 2
        ),
    ),
    "index": (
        ("get_model_repository_index",),
        lambda c, k: c.get_model_repository_index(),
        lambda told: (
            [each["name"] for each in told] == ["sums"]
            if isinstance(told, list)
            else [each.name for each in told.models] == ["sums"]
        ),
    ),
    "load": (("load_model",), lambda c, k: c.load_model("sums"), None),
    "load with another configuration": (
        ("load_model",),
        lambda c, k: refused(lambda: c.load_model("sums", config="{}")),
        REFUSED,
    ),
    "unload what is not there": (("unload_model",), lambda c, k: c.unload_model("none"), None),
    "statistics": (
        ("get_inference_statistics",),
        lambda c, k: c.get_inference_statistics("sums", "1"),
        lambda told: (
            field(told, "model_stats", 0, "name") == "sums"
            if isinstance(told, dict)
            else told.model_stats[0].name == "sums"
        ),
    ),
    "traces": (("update_trace_settings", "get_trace_settings"), traces, ("7", ["OFF"])),
    "logs": (("update_log_settings", "get_log_settings"), settings, False),
    "system shared memory": (
        (
            "get_system_shared_memory_status",
            "register_system_shared_memory",
            "unregister_system_shared_memory",
        ),
        shared,
        (True, SUMS),
    ),
    "CUDA shared memory, status": (
        ("get_cuda_shared_memory_status",),
        lambda c, k: c.get_cuda_shared_memory_status(),
        lambda told: not (told if isinstance(told, list) else told.regions),
    ),
    "CUDA shared memory, register": (
        ("register_cuda_shared_memory",),
        lambda c, k: refused(lambda: c.register_cuda_shared_memory("r", b"x" * 64, 0, 8)),
        REFUSED,
    ),
    "CUDA shared memory, unregister": (
        ("unregister_cuda_shared_memory",),
        lambda c, k: c.unregister_cuda_shared_memory(),
        None,
    ),
    "infer": (("infer",), inferred, (SUMS, "patient", "urgent")),
    "infer later": (("async_infer",), inferred_later, SUMS),
    "stream": (("start_stream", "stop_stream", "async_stream_infer"), streamed, [SUMS] * 3),
    "stream, asyncio": (("stream_infer",), streamed, [SUMS] * 3),
    "bodies": (("generate_request_body", "parse_response_body"), bodies, ROWS.nbytes),
}
"""By what is tried: the methods, how, and what comes of it."""

HOUSEKEEPING = {"close", "register_plugin", "unregister_plugin", "plugin"}
PAIRS = [
    (kind, what)
    for kind, module in KINDS.items()
    for what, (methods, _, _) in CALLS.items()
    if all(hasattr(module.InferenceServerClient, each) for each in methods)
]


# The asynchronous HTTP client does not read answers to the end that are errors, or empty.
@pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning")
@pytest.mark.parametrize(("kind", "what"), PAIRS)
def test_all_of_it_works(server, kind, what):
    module, (_, call, expected) = KINDS[kind], CALLS[what]
    address = server.grpc if kind.startswith("gRPC") else server.http.removeprefix("http://")

    async def ask() -> Any:
        client = module.InferenceServerClient(address)
        try:
            return await settled(call(client, module))
        finally:
            await settled(client.close())

    found = asyncio.run(ask())
    gc.collect()  # while those warnings are expected
    assert expected(found) if callable(expected) else found == expected


@pytest.mark.parametrize("kind", KINDS)
def test_no_method_is_left_out(kind):
    client = KINDS[kind].InferenceServerClient
    public = {name for name in dir(client) if not name.startswith("_")} - HOUSEKEEPING
    tried = {each for k, what in PAIRS if k == kind for each in CALLS[what][0]}
    assert public == tried
