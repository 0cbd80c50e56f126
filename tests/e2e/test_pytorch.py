"""A model with a variant of each runtime: both serve, workers being threads or processes."""

from __future__ import annotations

import numpy as np
import pytest
import tritonclient.grpc as triton

import torch_models
from gearshift.executors.pytorch import installed
from onnx_models import TWO_VARIANTS, row_sum
from serving import gearshift, start, stop

pytestmark = pytest.mark.skipif(not installed(), reason="PyTorch is not installed")

MIXED = TWO_VARIANTS.replace('executor = "onnx"', 'executor = "torch"', 1)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """`large` is a program of PyTorch, `small` an ONNX file."""
    folder = tmp_path_factory.mktemp("mixed") / "sums"
    torch_models.row_sum(folder / "large" / "model.pt2")
    row_sum(folder / "small" / "model.onnx")
    (folder / "model.toml").write_text(MIXED)
    return folder.parent


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_each_request_is_answered_by_either(repository, tmp_path, isolation):
    server = start(
        *("--repository", str(repository), "--state-dir", str(tmp_path)),
        *("--workers", "1", "--set", f"worker_isolation={isolation}"),
    )
    try:
        with triton.InferenceServerClient(server.grpc) as client:
            rows = triton.InferInput("x", [2, 3], "FP32")
            rows.set_data_from_numpy(np.array([[1, 2, 3], [4, 5, 6]], np.float32))
            for pinned in ("large", "small"):
                answer = client.infer("sums", [rows], parameters={"variant": pinned})
                assert answer.as_numpy("y").tolist() == [[6.0], [15.0]]
                assert answer.get_response().parameters["variant"].string_param == pinned
            free = client.infer("sums", [rows]).get_response()
            assert free.parameters["variant"].string_param == "large"
        assert server.samples("gearshift_variant_latency_seconds", variant="large")
    finally:
        assert stop(server) == 0


def test_check_tells_what_is_wrong_with_a_program(repository, tmp_path):
    folder = tmp_path / "repo" / "sums"
    torch_models.row_sum(folder / "large" / "model.pt2")
    row_sum(folder / "small" / "model.onnx")
    (folder / "model.toml").write_text(MIXED)
    program = folder / "large" / "model.pt2"
    program.write_bytes(program.read_bytes()[:-100])
    ended = gearshift("check", "--repository", str(tmp_path / "repo"))
    assert ended.returncode != 0
    assert "sums/large/model.pt2" in ended.stderr + ended.stdout
    assert "nothing that torch.export.save has written" in ended.stderr + ended.stdout
