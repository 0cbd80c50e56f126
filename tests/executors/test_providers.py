"""What may be asked of ONNX Runtime's providers, and what becomes of it on which machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.executors.providers import (
    KINDS,
    Cuda,
    Share,
    TensorRT,
    providers_of,
    short,
    wanted,
)

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TENSORRT, OPENVINO = "TensorrtExecutionProvider", "OpenVINOExecutionProvider"
GPU_WHEEL = [TENSORRT, CUDA, CPU]


def chains(asked, installed, gpus=()):
    found = wanted(providers_of(asked), installed, gpus)
    return {device: [name for name, _ in chain] for device, chain in found.chains.items()}, set(
        found.missing
    )


def test_names_tables_and_onnx_runtimes_own_names():
    found = providers_of(["cuda", CPU, {"name": "tensorrt", "fp16": True, "devices": [1]}])
    assert [each.name for each in found] == ["cuda", "cpu", "tensorrt"]
    assert found[2].fp16
    assert {short(kind.onnx_name) for kind in KINDS} == {
        *("cpu", "cuda", "tensorrt", "openvino", "directml", "coreml")
    }


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        ("CUDA", "no provider 'CUDA'; known are coreml, cpu, cuda, directml, openvino, tensorrt"),
        ({"name": "rocm"}, "does not match any of the expected tags"),
        ({"fp16": True}, "Unable to extract tag"),
        ({"name": "cuda", "fp16": True}, "Extra inputs are not permitted"),
        ({"name": "cuda", "memory_mib": -1}, "greater than or equal to 0"),
        ({"name": "cuda", "devices": [256]}, "less than or equal to 255"),
        ({"name": "cuda", "convolutions": "guess"}, "'heuristic', 'exhaustive' or 'default'"),
        ({"name": "openvino", "device": "gpu.1"}, "'cpu', 'gpu' or 'npu'"),
        (7, "valid dictionary"),
    ],
)
def test_what_is_wrong_is_told(given_, told):
    with pytest.raises(ValueError, match=told):
        providers_of([given_])


@pytest.mark.parametrize(
    ("asked", "installed", "gpus", "found", "missing"),
    [
        # Nothing is asked for: CUDA where there is a GPU, and the processor.
        ([], [CPU], [], {"cpu": []}, set()),
        ([], GPU_WHEEL, [], {"cpu": []}, set()),
        ([], GPU_WHEEL, [0, 1], {"gpu0": [CUDA], "gpu1": [CUDA], "cpu": []}, set()),
        # The processor of a machine with OpenVINO stays ONNX Runtime's.
        ([], [OPENVINO, CPU], [], {"cpu": []}, set()),
        # One device, several providers: a chain.
        (["tensorrt", "cuda"], GPU_WHEEL, [0], {"gpu0": [TENSORRT, CUDA]}, set()),
        (["openvino", "cpu"], [OPENVINO, CPU], [], {"cpu": [OPENVINO]}, set()),
        (["cuda", "cpu"], GPU_WHEEL, [0], {"gpu0": [CUDA], "cpu": []}, set()),
        # What cannot be had.
        (["cuda"], [CPU], [0], {"cpu": []}, {("cuda", "gpu0")}),
        (["cuda"], GPU_WHEEL, [], {"cpu": []}, {("cuda", "gpu")}),
        (["openvino"], [CPU], [], {"cpu": []}, {("openvino", "cpu")}),
        (
            [{"name": "cuda", "devices": [0, 3]}],
            GPU_WHEEL,
            [0, 1],
            {"gpu0": [CUDA]},
            {("cuda", "gpu3")},
        ),
        (
            [{"name": "tensorrt", "devices": [1]}, "cuda"],
            GPU_WHEEL,
            [0, 1],
            {"gpu0": [CUDA], "gpu1": [TENSORRT, CUDA]},
            set(),
        ),
    ],
)
def test_what_runs_where(asked, installed, gpus, found, missing):
    assert chains(asked, installed, gpus) == (found, missing)


def test_options_are_those_that_onnx_runtime_knows():
    asked = providers_of(
        [
            {"name": "cuda", "memory_mib": 2, "tf32": False, "convolutions": "exhaustive"},
            {"name": "tensorrt", "fp16": True, "workspace_mib": 1},
            {"name": "openvino"},
            {"name": "openvino", "device": "npu", "precision": "fp16"},
            {"name": "directml", "devices": [1]},
            {"name": "coreml", "units": "cpu_and_neural_engine"},
        ]
    )
    options = [dict(each.on([1], Share(threads=3, runs=2))) for each in asked]
    assert options == [
        {
            "gpu1": {
                "device_id": "1",
                "arena_extend_strategy": "kSameAsRequested",
                "cudnn_conv_algo_search": "EXHAUSTIVE",
                "use_tf32": "0",
                "gpu_mem_limit": "2097152",
            }
        },
        {
            "gpu1": {
                "device_id": "1",
                "trt_fp16_enable": "True",
                "trt_max_workspace_size": "1048576",
            }
        },
        {
            "cpu": {
                "device_type": "CPU",
                "precision": "ACCURACY",
                "num_of_threads": "6",
                "num_streams": "2",
            }
        },
        {"intel-npu": {"device_type": "NPU", "precision": "FP16"}},
        {"directml1": {"device_id": "1"}},
        {"coreml": {"ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndNeuralEngine"}},
    ]


ASKED = st.lists(
    st.sampled_from(["cpu", "cuda", "tensorrt", "openvino", "directml", "coreml"]), max_size=4
)


@given(
    ASKED,
    st.sets(st.sampled_from([kind.onnx_name for kind in KINDS])),
    st.sets(st.integers(0, 7), max_size=3),
)
def test_there_is_always_something_that_runs_and_nothing_goes_untold(asked, installed, gpus):
    installed = installed | {CPU}
    found = wanted(providers_of(asked), installed, sorted(gpus))
    assert found.chains
    used = {name for chain in found.chains.values() for name, _ in chain}
    assert used <= installed - {CPU}
    for each in providers_of(asked):
        told = {name for name, _ in found.missing}
        assert each.name == "cpu" or each.onnx_name in used or each.name in told
    for device in found.chains:
        on_cuda = device.startswith("gpu")
        assert not on_cuda or int(device[3:]) in gpus
    if not asked:
        assert not found.missing
    assert {Cuda, TensorRT} <= set(KINDS)
