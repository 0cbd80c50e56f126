"""A server that is told to use a GPU that is not there serves on the processor, and says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as triton

from onnx_models import TWO_VARIANTS, row_sum
from serving import start, stop


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="it may be there"
)
@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_without_the_gpu_that_was_asked_for(tmp_path: Path, isolation: str):
    folder = tmp_path / "repository" / "sums"
    paths = {name: row_sum(folder / name / "model.onnx") for name in ("large", "small")}
    (folder / "model.toml").write_text(TWO_VARIANTS)
    server = start(
        *("--repository", str(folder.parent), "--state-dir", str(tmp_path / "state")),
        *("--workers", "1", "--provider", "cuda", "--set", f"worker_isolation={isolation}"),
    )
    try:
        fallback = server.samples("gearshift_provider_fallback", model="sums")
        assert fallback == {
            (*place, name): value
            for name in paths
            for place, value in ((("gpu", "cuda"), 1.0), (("cpu", "cpu"), 0.0))
        }
        # With processes one more than there are workers, each with its own.
        copies = 2 if isolation == "process" else 1
        size = server.samples("gearshift_variant_resident_bytes", model="sums")
        assert size == {("cpu", name): copies * path.stat().st_size for name, path in paths.items()}
        with triton.InferenceServerClient(server.grpc) as client:
            rows = triton.InferInput("x", [1, 3], "FP32")
            rows.set_data_from_numpy(np.array([[1, 2, 3]], np.float32))
            assert client.infer("sums", [rows]).as_numpy("y").tolist() == [[6.0]]
    finally:
        assert stop(server) == 0
