"""Which ONNX Runtime providers variants run on, with their options: what may be said, and what
becomes of it on this machine. Pure.

A device is what workers stand for (`gpu0`, `cpu`, ...). Of the providers that are asked for, those
that run on the same device make its chain: the first takes what it can of a graph, the next one
what is left, and ONNX Runtime's own provider for the processor the rest. Names and values of
options are those of onnxruntime.ai/docs/execution-providers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

CPU = "cpu"

Options = Mapping[str, str]
Chain = Sequence[tuple[str, Options]]
"""Providers as ONNX Runtime calls them, best first, each with its options."""

Device = Annotated[int, Field(ge=0, le=255)]
ON_PROCESSOR = "CPUExecutionProvider"


class Share(NamedTuple):
    """How a provider may use the processor: threads for one run, and runs at the same time."""

    threads: int = 1
    runs: int = 1


ALONE = Share()


class _Provider(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    onnx_name: ClassVar[str]

    def on(self, gpus: Sequence[int], share: Share) -> Mapping[str, Options]:
        """Its options by each device that it runs on; `gpus` are the numbers of those that CUDA
        has."""
        raise NotImplementedError

    def lacking(self, gpus: Sequence[int]) -> Sequence[str]:
        """The devices that it is asked for on, and that are not there."""
        return ()


class Processor(_Provider):
    """ONNX Runtime's own."""

    name: Literal["cpu"]
    onnx_name = ON_PROCESSOR

    def on(self, gpus: Sequence[int], share: Share) -> Mapping[str, Options]:
        return {CPU: {}}


class _OnCuda(_Provider):
    devices: list[Device] = Field(
        default_factory=list, description="Which GPUs, by CUDA's numbers; empty for all."
    )

    def on(self, gpus: Sequence[int], share: Share) -> Mapping[str, Options]:
        return {
            f"gpu{number}": {"device_id": str(number), **self.options()}
            for number in gpus
            if number in self.devices or not self.devices
        }

    def lacking(self, gpus: Sequence[int]) -> Sequence[str]:
        if not self.devices and not gpus:
            return ("gpu",)
        return [f"gpu{number}" for number in sorted(set(self.devices) - set(gpus))]

    def options(self) -> Options:
        raise NotImplementedError


class Cuda(_OnCuda):
    """NVIDIA's GPUs by CUDA."""

    name: Literal["cuda"]
    memory_mib: int = Field(0, ge=0, description="MiB that one variant may take of a GPU; 0: all.")
    convolutions: Literal["heuristic", "exhaustive", "default"] = Field(
        "heuristic",
        description="How cuDNN's algorithms are chosen: exhaustive tries all of them at the first"
        " run of each batch size.",
    )
    tf32: bool = Field(
        True, description="Whether products of fp32 may be made of 10-bit mantissas."
    )
    onnx_name = "CUDAExecutionProvider"

    def options(self) -> Options:
        options = {
            # An arena for each variant: doubling each would leave half of the memory unused.
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": self.convolutions.upper(),
            "use_tf32": str(int(self.tf32)),
        }
        if self.memory_mib:
            options["gpu_mem_limit"] = str(self.memory_mib * 2**20)
        return options


class TensorRT(_OnCuda):
    """NVIDIA's GPUs by TensorRT, which compiles each variant for the GPU at its first load."""

    name: Literal["tensorrt"]
    fp16: bool = Field(
        False, description="Whether it may compute in fp16, which no card has measured."
    )
    workspace_mib: int = Field(0, ge=0, description="MiB that compiling may take; 0: as it likes.")
    cache_mib: int = Field(8_192, ge=1, description="MiB of compiled engines that are kept.")
    onnx_name = "TensorrtExecutionProvider"

    def options(self) -> Options:
        options = {"trt_fp16_enable": str(self.fp16)}
        if self.workspace_mib:
            options["trt_max_workspace_size"] = str(self.workspace_mib * 2**20)
        return options


class OpenVino(_Provider):
    """Intel's processors, GPUs and NPUs, and AMD's processors, by OpenVINO."""

    name: Literal["openvino"]
    device: Literal["cpu", "gpu", "npu"] = "cpu"
    precision: Literal["accuracy", "fp16"] = Field(
        "accuracy", description="accuracy: as the model is; fp16 for GPUs and NPUs only."
    )
    onnx_name = "OpenVINOExecutionProvider"

    def on(self, gpus: Sequence[int], share: Share) -> Mapping[str, Options]:
        options = {"device_type": self.device.upper(), "precision": self.precision.upper()}
        if self.device == CPU:
            # It has threads of its own, divided among streams: a run takes one of those.
            return {
                CPU: {
                    **options,
                    "num_of_threads": str(share.threads * share.runs),
                    "num_streams": str(share.runs),
                }
            }
        return {f"intel-{self.device}": options}


class DirectML(_Provider):
    """GPUs on Windows by DirectX 12."""

    name: Literal["directml"]
    devices: list[Device] = Field(default_factory=lambda: [0])
    onnx_name = "DmlExecutionProvider"

    def on(self, gpus: Sequence[int], share: Share) -> Mapping[str, Options]:
        return {f"directml{number}": {"device_id": str(number)} for number in self.devices}


class CoreML(_Provider):
    """Apple's processors, GPUs and neural engines; Core ML divides the work among them."""

    name: Literal["coreml"]
    units: Literal["all", "cpu_and_gpu", "cpu_and_neural_engine"] = "all"
    onnx_name = "CoreMLExecutionProvider"

    def on(self, gpus: Sequence[int], share: Share) -> Mapping[str, Options]:
        units = {
            "all": "ALL",
            "cpu_and_gpu": "CPUAndGPU",
            "cpu_and_neural_engine": "CPUAndNeuralEngine",
        }
        return {"coreml": {"ModelFormat": "MLProgram", "MLComputeUnits": units[self.units]}}


KINDS: Sequence[type[_Provider]] = (TensorRT, Cuda, DirectML, CoreML, OpenVino, Processor)
_NAMES: Mapping[str, str] = {
    kind.onnx_name: get_args(kind.model_fields["name"].annotation)[0] for kind in KINDS
}


def _spelled(given: object) -> object:
    """A name alone stands for a provider without options; ONNX Runtime's names are known."""
    if not isinstance(given, str):
        return given
    name = _NAMES.get(given, given)
    if name not in _NAMES.values():
        raise ValueError(
            f"there is no provider {given!r}; known are {', '.join(sorted(_NAMES.values()))}"
        )
    return {"name": name}


Provider = Annotated[
    Annotated[
        Processor | Cuda | TensorRT | OpenVino | DirectML | CoreML, Field(discriminator="name")
    ],
    BeforeValidator(_spelled),
]
"""One of them, as it is written: a name, or a table with its name and options."""

_ADAPTER: TypeAdapter[Any] = TypeAdapter(list[Provider])


def providers_of(given: Sequence[Any]) -> Sequence[_Provider]:
    """From names, tables or providers. ValueError (pydantic's) for what is none."""
    found: Sequence[_Provider] = _ADAPTER.validate_python(list(given))
    return found


@dataclass(frozen=True, slots=True)
class Wanted:
    """What runs where, as far as it can be known before anything is tried: the chain of each
    device, without ONNX Runtime's own provider at its end; and what is not to be had, by the
    provider's short name and the device, with the reason."""

    chains: Mapping[str, Chain]
    missing: Mapping[tuple[str, str], str]


def wanted(
    asked: Sequence[_Provider],
    installed: Collection[str],
    gpus: Sequence[int],
    share: Share = ALONE,
) -> Wanted:
    """`installed` as `onnxruntime.get_available_providers()` says. Where nothing is asked for, that
    is CUDA, where there is a GPU, and the processor: those which compute as the model says, without
    compiling anything first. Where nothing of what is asked for is to be had, the processor is
    used: a server without its GPU still serves, and says so."""
    chosen = list(asked) or [Processor(name="cpu")]
    if not asked and gpus and Cuda.onnx_name in installed:
        chosen.insert(0, Cuda.model_validate({"name": "cuda"}))
    there = ", ".join(sorted(_NAMES[each] for each in installed if each in _NAMES))
    chains: dict[str, list[tuple[str, Options]]] = {}
    missing: dict[tuple[str, str], str] = {}
    for provider in chosen:
        name = short(provider.onnx_name)
        devices = provider.on(gpus, share)
        lacking = provider.lacking(gpus)
        if provider.onnx_name not in installed:
            reason = f"this ONNX Runtime does not have it; it has {there}"
            missing |= {(name, device): reason for device in (*devices, *lacking)}
            continue
        for device, options in devices.items():
            chains.setdefault(device, []).append((provider.onnx_name, options))
        for device in lacking:
            missing[name, device] = f"CUDA has the GPUs {list(gpus)} here" if gpus else "no GPU"
    # At the end of each it is there in any case; alone where nothing better is.
    kept = {
        device: [each for each in chain if each[0] != ON_PROCESSOR]
        for device, chain in chains.items()
    }
    return Wanted(kept or {CPU: []}, missing)


def short(onnx_name: str) -> str:
    """What a provider is called here, by ONNX Runtime's name for it."""
    return _NAMES.get(onnx_name, onnx_name)
