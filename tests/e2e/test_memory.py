"""Three variants on a real server with memory for two: which two follows what is asked for."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from onnx_models import weighty
from serving import Server, start, stop

WITHIN = 20.0
SCALES = {"large": 1.0, "middle": 2.0, "small": 3.0}
TOML = """
metric = "top1"
max_batch_size = 4
default_class = "default"
[classes.default]
budget_ms = 5000
"""
VARIANT = """
[[variants]]
name = "{}"
version = {}
executor = "onnx"
accuracy = {}
"""
MIB = 16
"""Of each: what is measured may be some MiB more."""


@pytest.fixture
def server(tmp_path: Path):
    folder = tmp_path / "repository" / "sums"
    text = TOML
    for version, (name, scale) in enumerate(SCALES.items(), start=1):
        weighty(folder / name / "model.onnx", scale, MIB)
        text += VARIANT.format(name, version, 1.0 - version / 10)
    (folder / "model.toml").write_text(text)
    running = start(
        *("--repository", str(folder.parent), "--state-dir", str(tmp_path / "state")),
        *("--workers", "1", "--set", f"device_memory_mib=cpu={2.9 * MIB}"),
    )
    yield running
    assert stop(running) == 0


def resident(server: Server) -> dict[str, float]:
    found = server.samples("gearshift_variant_resident", model="sums", device="cpu")
    return {variant: value for (variant,), value in found.items()}


def test_what_is_asked_for_is_loaded_and_what_nobody_asks_for_makes_room(server: Server):
    before = resident(server)
    assert sorted(before.values()) == [0.0, 1.0, 1.0]
    assert before["large"] == 1.0
    # The other two differ by what was measured.
    here, away = sorted(["middle", "small"], key=lambda name: -before[name])
    version = {name: str(number) for number, name in enumerate(SCALES, start=1)}
    rows = triton.InferInput("x", [1, 3], "FP32")
    rows.set_data_from_numpy(np.array([[1, 2, 3]], np.float32))
    with triton.InferenceServerClient(server.grpc) as client:
        index = {each.version: each for each in client.get_model_repository_index().models}
        assert {index[version[name]].state for name in ("large", here)} == {"READY"}
        assert index[version[away]].state == "UNAVAILABLE"
        assert index[version[away]].reason.startswith("not_resident")
        assert client.is_model_ready("sums")
        assert client.is_model_ready("sums", version[here])
        assert not client.is_model_ready("sums", version[away])
        with pytest.raises(
            InferenceServerException, match=f"resident are large, {here}"
        ) as refused:
            client.infer("sums", [rows], model_version=version[away])
        assert refused.value.status() == "StatusCode.FAILED_PRECONDITION"
        until, answer = time.monotonic() + WITHIN, None
        while answer is None and time.monotonic() < until:
            # Who asks for the most accurate is answered all the while.
            assert client.infer("sums", [rows]).as_numpy("y").tolist() == [[6.0]]
            try:
                answer = client.infer("sums", [rows], model_version=version[away]).as_numpy("y")
            except InferenceServerException as error:
                assert "not resident" in str(error)
                time.sleep(0.02)
        assert answer is not None
        assert answer.tolist() == [[6.0 * SCALES[away]]]
        assert client.is_model_ready("sums", version[away])
    assert resident(server) == {"large": 1.0, here: 0.0, away: 1.0}
    (limit,) = server.samples("gearshift_device_memory_limit_bytes").values()
    (used,) = server.samples("gearshift_device_memory_used_bytes").values()
    assert 2 * MIB * 2**20 <= used <= limit == pytest.approx(2.9 * MIB * 2**20)
    loads = server.samples("gearshift_variant_loads_total", device="cpu")
    assert loads == {("loaded",): 1.0, ("failed",): 0.0}
    assert server.samples("gearshift_variant_unloads_total") == {("cpu",): 1.0}
    assert server.samples("gearshift_residency_decisions_total", result="changed") == {(): 1.0}
