"""tritonclient's HTTP client as it stands, against a real server."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from onnx_models import TWO_VARIANTS, row_sum
from serving import start, stop

ROWS = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
SUMS = [[6.0], [15.0]]


@pytest.fixture(scope="module", params=["1", "2"])
def address(request, tmp_path_factory):
    """Of the HTTP port, with one serving process and with several."""
    folder = tmp_path_factory.mktemp("rest")
    for variant in ("large", "small"):
        row_sum(folder / "repo" / "sums" / variant / "model.onnx")
    (folder / "repo" / "sums" / "model.toml").write_text(TWO_VARIANTS)
    server = start(
        *("--repository", str(folder / "repo"), "--state-dir", str(folder / "state")),
        *("--set", f"processes={request.param}"),
    )
    yield server.http.removeprefix("http://")
    assert stop(server) == 0


@pytest.fixture(scope="module")
def client(address):
    with triton.InferenceServerClient(address, concurrency=4) as made:
        yield made


def rows(kind=triton, *, binary: bool = True):
    made = kind.InferInput("x", [2, 3], "FP32")
    made.set_data_from_numpy(ROWS, binary_data=binary)
    return made


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
def test_answers(client, binary_in, binary_out, packing):
    answer = client.infer(
        "sums",
        [rows(binary=binary_in)],
        outputs=[triton.InferRequestedOutput("y", binary_data=binary_out)],
        request_id="one",
        request_compression_algorithm=packing,
        response_compression_algorithm=packing,
    )
    assert answer.as_numpy("y").tolist() == SUMS
    told = answer.get_response()
    assert told["id"] == "one"
    assert told["parameters"]["variant"] == "large"


def test_what_is_asked_for_and_refused(client):
    answer = client.infer("sums", [rows()], parameters={"variant": "small"})
    assert answer.get_response()["parameters"]["reason"] == "pinned"
    assert client.infer("sums", [rows()], model_version="2").as_numpy("y").tolist() == SUMS
    with pytest.raises(InferenceServerException, match=r"no variant of model 'sums' reaches") as e:
        client.infer("sums", [rows()], parameters={"min_accuracy": 0.95})
    assert e.value.status() == "400"
    with pytest.raises(InferenceServerException, match="no model 'none'"):
        client.infer("none", [rows()])


def test_many_at_a_time(client):
    asked = [client.async_infer("sums", [rows()]) for _ in range(40)]
    assert [each.get_result().as_numpy("y").tolist() for each in asked] == [SUMS] * 40


def test_the_asynchronous_client(address):
    async def ask() -> None:
        async with triton_aio.InferenceServerClient(address) as client:
            assert await client.is_server_live()
            answers = await asyncio.gather(
                *(client.infer("sums", [rows(triton_aio)]) for _ in range(8))
            )
            assert [each.as_numpy("y").tolist() for each in answers] == [SUMS] * 8

    asyncio.run(ask())


def test_all_else(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sums")
    assert client.is_model_ready("sums", "1")
    assert not client.is_model_ready("none")
    assert client.get_server_metadata()["name"] == "gearshift"
    assert client.get_model_metadata("sums")["versions"] == ["1", "2"]
    assert client.get_model_config("sums")["max_batch_size"] == 4
    index = client.get_model_repository_index()
    assert [each["name"] for each in index] == ["sums"] * len(index)
    client.infer("sums", [rows()])
    counted = client.get_inference_statistics("sums")["model_stats"]
    assert sum(each["inference_count"] for each in counted) > 0
    assert client.get_system_shared_memory_status() == []
    client.load_model("sums")
    assert client.is_model_ready("sums")
    with pytest.raises(InferenceServerException):
        client.load_model("none")
