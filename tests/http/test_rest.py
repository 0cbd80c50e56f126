"""The inference protocol over HTTP, against the real gRPC side with the fake executor."""

from __future__ import annotations

import gzip
import http.client
import json
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2

from access_file import AccessPlace
from gearshift.access import Guard
from gearshift.http.rest.infer import HEADER_LENGTH, LARGEST_JSON
from grpc_bench import GrpcBench
from rest_site import INFER, MOST, RAW, ROWS, SUMS, Site, asked
from waiting import until


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    bench = GrpcBench()
    made = Site(bench)
    yield made
    made.server.stop()
    bench.stop()


# --- inference --------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [ROWS, [1, 2, 3, 4.0, 5.0, 6.0], [[[1], [2], [3]], [4, [5, 6]]]])
def test_values_in_json_however_they_are_nested(site, data):
    request = asked()
    request["inputs"][0]["data"] = data
    status, answer = site.told(INFER, request)
    assert status == 200
    assert (answer["model_name"], answer["id"]) == ("m", "7")
    (output,) = answer["outputs"]
    assert output == {"name": "y", "datatype": "FP32", "shape": [2, 1], "data": SUMS}
    told = answer["parameters"]
    assert told["variant"] == "large"
    assert isinstance(told["batch_size"], int)
    assert answer["model_version"].isdigit()


def binary(**changes: Any) -> tuple[bytes, str]:
    """A request whose input follows its JSON, and the length of that."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 3]}
    tensor["parameters"] = {"binary_data_size": len(RAW)}
    head = json.dumps({"inputs": [tensor], **changes}).encode()
    return head + RAW, str(len(head))


@pytest.mark.parametrize(
    "wanted",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "y", "parameters": {"binary_data": True}}]},
    ],
)
def test_binary_data_both_ways(site, wanted):
    body, length = binary(**wanted)
    answer, content = site.ask(INFER, body, Inference_Header_Content_Length=length)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/octet-stream"
    size = int(answer.headers[HEADER_LENGTH])
    (output,) = json.loads(content[:size])["outputs"]
    assert output["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(content[size:], np.float32).tolist() == SUMS


def test_one_output_may_be_binary_and_others_not(site):
    body, length = binary(
        parameters={"binary_data_output": True},
        outputs=[{"name": "y", "parameters": {"binary_data": False}}],
    )
    status, answer = site.told(INFER, body, Inference_Header_Content_Length=length)
    assert (status, answer["outputs"][0]["data"]) == (200, SUMS)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
def test_bodies_may_be_compressed(site, encoding):
    body = json.dumps(asked()).encode()
    packed = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}[encoding](body)
    status, answer = site.told(INFER, packed, Content_Encoding=encoding)
    assert (status, answer["outputs"][0]["data"]) == (200, SUMS)


def test_budgets_floors_and_pins_are_parameters(site):
    request = asked(parameters={"latency_budget_ms": 5_000, "variant": "small"})
    status, answer = site.told(INFER, request)
    assert status == 200
    assert answer["parameters"]["variant"] == "small"
    assert answer["parameters"]["reason"] == "pinned"
    version = answer["model_version"]
    status, answer = site.told(f"/v2/models/m/versions/{version}/infer", asked())
    assert (status, answer["parameters"]["variant"]) == (200, "small")
    status, answer = site.told(INFER, asked(parameters={"min_accuracy": 0.999}))
    assert status == 400
    assert "0.999" in answer["error"]


def test_a_body_may_say_again_what_the_path_says(site):
    for more in ({"model_name": "m"}, {"model_name": "m", "model_version": ""}):
        assert site.told(INFER, asked(**more))[0] == 200
    same = asked(model_name="m", model_version="2")
    assert site.told("/v2/models/m/versions/2/infer", same)[0] == 200


def test_packed_bodies_that_are_none_or_too_large(site):
    for body, encoding, status, text in (
        (b"no", "gzip", 400, "is no gzip"),
        (gzip.compress(b"{}" * 50)[:-9], "gzip", 400, "cut short"),
        (gzip.compress(bytes(MOST + 1)), "gzip", 413, "larger than"),
        (b"{}", "br", 415, "'br' is not known here"),
    ):
        found, answer = site.told(INFER, body, Content_Encoding=encoding)
        assert found == status
        assert text in answer["error"]


def test_a_large_tensor_passes_the_windows_of_http2(site):
    """A body of megabytes, which does not fit into what may be sent at once."""
    name = "n" * (LARGEST_JSON - 1_000)
    request = json.dumps({**asked(), "id": name}).encode()
    status, answer = site.told(INFER, request)
    assert (status, answer["id"]) == (200, name)
    assert answer["outputs"][0]["data"] == SUMS


# --- all else ---------------------------------------------------------------------------------


def test_what_the_server_and_its_models_are(site):
    assert site.told("/v2")[1]["name"] == "gearshift"
    status, model = site.told("/v2/models/m")
    assert status == 200
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert model["versions"]
    assert site.told("/v2/models/m/versions/1")[0] == 200
    status, config = site.told("/v2/models/m/config")
    assert (status, config["name"], config["max_batch_size"]) == (200, "m", 8)
    assert config["input"][0]["dims"] == [3]
    status, answer = site.told("/v2/models/none")
    assert status == 404
    assert "none" in answer["error"]


def test_health(site):
    assert site.told("/v2/health/live") == (200, {"live": True})
    for path in ("/v2/health/ready", "/v2/models/m/ready"):
        assert site.told(path) == (200, {"ready": True})
    assert site.told("/v2/models/none/ready") == (400, {"ready": False})


def test_the_configuration_is_the_message_that_tools_make_of_it(site):
    """As model-analyzer makes it: no key is unknown to Triton's ModelConfig."""
    status, told = site.told("/v2/models/m/config")
    assert status == 200
    config = json_format.ParseDict(told, model_config_pb2.ModelConfig())
    assert (config.name, config.max_batch_size) == ("m", 8)
    assert [(each.name, list(each.dims)) for each in config.input] == [("x", [3])]
    assert config.HasField("dynamic_batching")


def test_statistics_are_numbers(site):
    for path, models in (("/v2/models/stats", {"m", "other"}), ("/v2/models/m/stats", {"m"})):
        status, told = site.told(path)
        assert status == 200
        assert {each["name"] for each in told["model_stats"]} == models
        for each in told["model_stats"]:
            assert isinstance(each["inference_count"], int)
            assert isinstance(each["inference_stats"]["success"]["ns"], int)
            # Clients look for it by name, where nothing is cached as well.
            assert each["inference_stats"]["cache_hit"] == {"count": 0, "ns": 0}


def test_the_repository(site):
    status, models = site.told("/v2/repository/index", {})
    assert status == 200
    assert {each["name"] for each in models} == {"m", "other"}
    status, answer = site.told("/v2/repository/index", {"ready": 1})
    assert (status, answer["error"]) == (400, "ready must be true or false")
    status, answer = site.told("/v2/repository/models/m/load", {"parameters": {"a": 1.5}})
    assert (status, "parameters.a" in answer["error"]) == (400, True)


def test_shared_memory(site):
    status, regions = site.told("/v2/systemsharedmemory/status")
    assert (status, regions) == (200, [])
    status, answer = site.told(
        "/v2/systemsharedmemory/region/r/register",
        {"key": "/none-of-that-name", "offset": 0, "byte_size": 8},
    )
    assert status == 500
    assert "none-of-that-name" in answer["error"]
    assert site.told("/v2/systemsharedmemory/unregister", {})[0] == 200
    status, answer = site.told("/v2/systemsharedmemory/region/r/register", {"byte_size": 8})
    assert (status, answer["error"]) == (400, "key is missing; a region has byte_size, key")
    whole = {"key": "/k", "byte_size": 8, "keys": 1}
    assert site.told("/v2/systemsharedmemory/region/r/register", whole)[0] == 400
    assert site.told("/v2/othersharedmemory/status")[0] == 404


def test_paths_that_are_none_of_the_protocol(site):
    for path, method, status in (
        ("/v2/nothing", "GET", 404),
        ("/v2/models/m/infer", "GET", 405),
        ("/v2/models/m", "POST", 405),
    ):
        found, answer = site.told(path, method=method)
        assert found == status
        assert path in answer["error"]


def test_before_the_server_listens(site):
    other = Site(site.bench, listens=False)
    try:
        status, answer = other.told("/v2")
        assert (status, answer["error"]) == (503, "the server is starting; try again shortly")
    finally:
        other.server.stop()


def test_who_leaves_frees_its_place():
    bench = GrpcBench(duration=lambda variant, rows: 0.3, workers=1)
    site = Site(bench)
    try:
        site.told(INFER, asked())
        connections = []
        for _ in range(3):
            connection = http.client.HTTPConnection("127.0.0.1", site.server.port, timeout=20)
            connection.request("POST", INFER, json.dumps(asked()))
            connections.append(connection)
        until(lambda: bench.run(queued(bench)) > 0)
        for connection in connections:
            connection.close()
        until(lambda: bench.run(queued(bench)) == 0)
        assert site.told(INFER, asked())[0] == 200
    finally:
        site.server.stop()
        bench.stop()


async def queued(bench: GrpcBench) -> int:
    return bench.usage.queued


def test_bodies_together_have_a_bound(site):
    small = Site(site.bench, most=1_000)
    try:
        waiting = []
        for _ in range(2):
            connection = http.client.HTTPConnection("127.0.0.1", small.server.port, timeout=20)
            connection.putrequest("POST", INFER)
            connection.putheader("Content-Length", "1000")
            connection.endheaders(b" " * 900)
            waiting.append(connection)
        # Until those have been read, the third has room.
        until(lambda: small.told(INFER, b" " * 400)[0] == 429)
        for connection in waiting:
            connection.close()
        until(lambda: small.told(INFER, asked())[0] == 200)
    finally:
        small.server.stop()


def test_pages_from_elsewhere_may_not_ask(site):
    for origin, status in (
        ("http://evil.example", 403),
        ("null", 403),
        ("http://[", 403),
        (f"http://127.0.0.1:{site.server.port}", 200),
    ):
        assert site.told(INFER, asked(), Origin=origin)[0] == status
    assert site.told("/v2", Origin="http://evil.example")[0] == 200


# --- rights -----------------------------------------------------------------------------------


def test_rights_are_those_of_whoever_asks_by_http(tmp_path):
    place = AccessPlace(tmp_path)
    bench = GrpcBench(access=Guard(place.path))
    site = Site(bench)
    try:
        assert site.told("/v2/models/m")[0] == 401
        assert site.told(INFER, asked())[0] == 401
        assert site.told("/v2/health/live")[0] == 200
        desk, ops = f"Bearer {place.desk}", f"Bearer {place.ops}"
        assert site.told(INFER, asked(), Authorization=desk)[0] == 200
        assert site.told("/v2/models/other/infer", asked(), Authorization=desk)[0] in (403, 404)
        assert site.told("/v2/models/other/infer", asked(), Authorization=ops)[0] == 200
        unload = "/v2/systemsharedmemory/unregister"
        assert site.told(unload, {}, Authorization=desk)[0] == 403
        assert site.told(unload, {}, Authorization=ops)[0] == 200
        behalf = json.dumps({"peer": "", "names": ["spiffe://example/robot"]})
        assert site.told(INFER, asked(), Gearshift_On_Behalf=behalf)[0] == 401
    finally:
        site.server.stop()
        bench.stop()
