"""Every call of the inference protocol, right and wrong, as data.

The models: `sum` adds the three FP32 of each row up, versions 1 and 2, batches to 8; `slow` does
the same in half a second, `levels` with two levels of priority; `NAME` of each datatype gives back
what it gets.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2 as pb

from conformance.case import Case, inference, named, streamed

SERVICE = "inference.GRPCInferenceService"
INFER, STREAM = f"{SERVICE}/ModelInfer", f"{SERVICE}/ModelStreamInfer"
LARGE = 8
ROW = struct.pack("<3f", 1.0, 2.0, 3.0)

CONTENTS = {
    "BOOL": ("bool_contents", [True, False, True], np.bool_),
    "UINT8": ("uint_contents", [0, 7, 255], np.uint8),
    "UINT16": ("uint_contents", [0, 7, 65_535], np.uint16),
    "UINT32": ("uint_contents", [0, 7, 2**32 - 1], np.uint32),
    "UINT64": ("uint64_contents", [0, 7, 2**64 - 1], np.uint64),
    "INT8": ("int_contents", [-128, 7, 127], np.int8),
    "INT16": ("int_contents", [-32_768, 7, 32_767], np.int16),
    "INT32": ("int_contents", [-(2**31), 7, 2**31 - 1], np.int32),
    "INT64": ("int64_contents", [-(2**63), 7, 2**63 - 1], np.int64),
    "FP32": ("fp32_contents", [-1.5, 0.0, 2.5], np.float32),
    "FP64": ("fp64_contents", [-1.5, 0.0, 2.5], np.float64),
    "BYTES": ("bytes_contents", [b"", b"a", b"\xff\x00"], np.object_),
}
DATATYPES = (*CONTENTS, "FP16", "BF16")


def infer(model: str = "sum", rows: int = 1, **about: Any) -> pb.ModelInferRequest:
    """A right request for `sum`, but for what is said about it."""
    request = pb.ModelInferRequest(
        model_name=model,
        model_version=about.get("version", ""),
        id=about.get("id", ""),
    )
    if about.get("inputs", True):
        datatype = about.get("datatype", "FP32")
        shape = about.get("shape", [rows, 3])
        request.inputs.add(name=about.get("name", "x"), datatype=datatype, shape=shape)
    for name in about.get("outputs", ()):
        request.outputs.add(name=name)
    for name, (kind, value) in about.get("parameters", {}).items():
        setattr(request.parameters[name], kind, value)
    raw = about.get("raw", ROW * rows)
    if raw is not None:
        request.raw_input_contents.append(raw)
    return request


def typed(datatype: str, *, raw: bool) -> pb.ModelInferRequest:
    """One row of three values for the model of that datatype."""
    field, values, kind = CONTENTS.get(datatype, ("fp32_contents", [-1.5, 0.0, 2.5], np.float16))
    request = pb.ModelInferRequest(model_name=datatype)
    tensor = request.inputs.add(name="x", datatype=datatype, shape=[1, 3])
    if not raw:
        getattr(tensor.contents, field).extend(values)
    elif datatype == "BYTES":
        parts = [struct.pack("<I", len(value)) + value for value in values]
        request.raw_input_contents.append(b"".join(parts))
    elif datatype == "BF16":
        # The upper halves of float32.
        halves = [struct.pack("<f", value)[2:] for value in values]
        request.raw_input_contents.append(b"".join(halves))
    else:
        request.raw_input_contents.append(np.array(values, kind).tobytes())
    return request


def _infer(name: str, request: pb.ModelInferRequest, **more: Any) -> Case:
    look = more.pop("look", named if request.id else inference)
    return Case(f"infer: {name}", INFER, [request], pb.ModelInferResponse, look, **more)


def _stream(name: str, *requests: pb.ModelInferRequest, **more: Any) -> Case:
    return Case(
        f"stream: {name}",
        STREAM,
        requests,
        pb.ModelStreamInferResponse,
        streamed,
        stream=True,
        **more,
    )


def _call(
    name: str, rpc: str, request: Any, look: Callable[[Any], Any] = lambda _: None, **more: Any
) -> Case:
    answer = getattr(pb, f"{rpc}Response")
    return Case(f"{rpc}: {name}", f"{SERVICE}/{rpc}", [request], answer, look, **more)


def cases() -> list[Case]:
    found = [
        *_right(),
        *_datatypes(),
        *_wrong(),
        *_parameters(),
        *_streams(),
        *_about(),
        *_control(),
        *_memory(),
        *_others(),
    ]
    assert len({case.name for case in found}) == len(found)
    return found


def _right() -> Iterator[Case]:
    yield _infer("one row", infer())
    yield _infer("a batch", infer(rows=8))
    yield _infer("an id", infer(id="mine"))
    yield _infer("no id, but is there one?", infer(), look=lambda answer: bool(answer.id))
    yield _infer("a long id", infer(id="i" * 5_000))
    yield _infer("version 1", infer(version="1"))
    yield _infer("version 2", infer(version="2"))
    yield _infer("the output named", infer(outputs=["y"]))
    yield _infer("one of two outputs", infer("two", outputs=["z"]))
    yield _infer("two outputs, other order", infer("two", outputs=["z", "y"]))
    yield _infer("the same output twice", infer("two", outputs=["y", "y"]))
    yield _infer("both outputs", infer("two"))
    yield _infer("gzip", infer(rows=8), compression="gzip")
    yield _infer("deflate", infer(rows=8), compression="deflate")
    yield _infer("a deadline far away", infer(), timeout=5.0)
    yield _infer(
        "a large message", infer("wide", shape=[LARGE, 524_288], raw=bytes(4 * 524_288 * LARGE))
    )
    yield _infer("a deadline shorter than the run", infer("slow"), timeout=0.1)
    yield _infer("the caller leaves", infer("slow"), leaves=0.1)
    yield _infer("NaN and infinity", infer(raw=struct.pack("<3f", math.nan, math.inf, 1.0)))


def _datatypes() -> Iterator[Case]:
    for datatype in DATATYPES:
        yield _infer(f"{datatype} raw", typed(datatype, raw=True))
        yield _infer(f"{datatype} typed", typed(datatype, raw=False))
    wrong = typed("INT32", raw=False)
    wrong.inputs[0].contents.fp32_contents.append(1.0)
    yield _infer("contents of two types", wrong)
    wrong = typed("INT8", raw=False)
    wrong.inputs[0].contents.int_contents[0] = 1_000
    yield _infer("INT8 out of range", wrong)


def _wrong() -> Iterator[Case]:
    yield _infer("unknown model", infer("nobody"))
    yield _infer("no model name", infer(""))
    yield _infer("unknown version", infer(version="9"))
    yield _infer("version abc", infer(version="abc"))
    yield _infer("version -1", infer(version="-1"))
    yield _infer("version 01", infer(version="01"))
    yield _infer("wrong input name", infer(name="z"))
    yield _infer("wrong datatype", infer(datatype="FP64", raw=ROW * 2))
    yield _infer("no such datatype", infer(datatype="FP8"))
    yield _infer("wrong shape", infer(shape=[1, 4]))
    yield _infer("too few dimensions", infer(shape=[3]))
    yield _infer("too many dimensions", infer(shape=[1, 3, 1]))
    yield _infer("a dimension below 0", infer(shape=[-1, 3]))
    yield _infer("more rows than allowed", infer(rows=9))
    yield _infer("no rows", infer(rows=0, raw=b""))
    yield _infer("too few bytes", infer(raw=ROW[:-1]))
    yield _infer("too many bytes", infer(raw=ROW + b"\0"))
    yield _infer("no data", infer(raw=None))
    yield _infer("no inputs", infer(inputs=False, raw=None))
    yield _infer("raw contents of no input", infer(inputs=False))
    both = infer()
    both.inputs[0].contents.fp32_contents.extend([1.0, 2.0, 3.0])
    yield _infer("raw and typed contents", both)
    few = infer(raw=None)
    few.inputs[0].contents.fp32_contents.extend([1.0, 2.0])
    yield _infer("too few typed values", few)
    twice = infer()
    twice.inputs.add().CopyFrom(twice.inputs[0])
    twice.raw_input_contents.append(ROW)
    yield _infer("an input twice", twice)
    more = infer()
    more.raw_input_contents.append(ROW)
    yield _infer("one raw contents too many", more)
    yield _infer("unknown output", infer(outputs=["z"]))
    cut = typed("BYTES", raw=True)
    cut.raw_input_contents[0] = struct.pack("<I", 99) + b"a"
    yield _infer("BYTES cut short", cut)
    cut = typed("BYTES", raw=True)
    cut.raw_input_contents[0] = struct.pack("<I", 1) + b"a"
    yield _infer("BYTES with elements missing", cut)


def _parameters() -> Iterator[Case]:
    for name, kind, value in (
        ("priority", "int64_param", 1),
        ("priority", "uint64_param", 1),
        ("priority", "uint64_param", 9),
        ("priority", "string_param", "high"),
        ("timeout", "int64_param", 5_000_000),
        ("timeout", "string_param", "soon"),
        ("timeout", "int64_param", -1),
        ("sequence_id", "int64_param", 3),
        ("sequence_id", "string_param", "three"),
        ("sequence_start", "bool_param", True),
        ("binary_data_output", "bool_param", True),
        ("triton_enable_empty_final_response", "bool_param", True),
        ("triton_unknown", "bool_param", True),
        ("latency_budget_ms", "int64_param", 2_000),
        ("min_accuracy", "double_param", 0.5),
        ("nobody_knows", "int64_param", 1),
    ):
        text = value if isinstance(value, str) else f"{value}"
        request = infer(parameters={name: (kind, value)})
        yield _infer(f"parameter {name} = {text} ({kind.removesuffix('_param')})", request)
    # Two levels, the second is the default.
    for level in (0, 1, 2, 3):
        request = infer("levels", parameters={"priority": ("uint64_param", level)})
        yield _infer(f"priority {level} of 2", request)
    tensor = infer()
    tensor.inputs[0].parameters["nobody_knows"].int64_param = 1
    yield _infer("an unknown parameter of an input", tensor)
    tensor = infer(outputs=["y"])
    tensor.outputs[0].parameters["classification"].int64_param = 1
    yield _infer("classification of an output", tensor)


def _streams() -> Iterator[Case]:
    yield _stream("one request", infer(id="1"))
    yield _stream("three requests", *(infer(id=str(number)) for number in range(3)))
    yield _stream("no request")
    yield _stream(
        "an error between two answers", infer(id="1"), infer("nobody", id="2"), infer(id="3")
    )
    yield _stream("an error of a shape", infer(shape=[1, 4], id="1"))
    strict = (("triton_grpc_error", "true"),)
    yield _stream("an error, strictly", infer("nobody", id="1"), metadata=strict)
    wanted = {"triton_enable_empty_final_response": ("bool_param", True)}
    yield _stream("an empty final response wanted", infer(id="1", parameters=wanted))
    yield _stream("gzip", infer(id="1", rows=8), compression="gzip")


def _about() -> Iterator[Case]:
    def ready(answer: Any) -> bool:
        return bool(answer.ready)

    yield _call("", "ServerLive", pb.ServerLiveRequest(), lambda a: a.live)
    yield _call("", "ServerReady", pb.ServerReadyRequest(), ready)
    for name, version in (
        ("sum", ""),
        ("sum", "1"),
        ("sum", "9"),
        ("sum", "abc"),
        ("nobody", ""),
        ("", ""),
    ):
        told = f"{name or 'no name'} {version or 'no version'}"
        yield _call(told, "ModelReady", pb.ModelReadyRequest(name=name, version=version), ready)
        yield _call(
            told,
            "ModelMetadata",
            pb.ModelMetadataRequest(name=name, version=version),
            lambda a: [
                a.name,
                [[t.name, t.datatype, list(t.shape)] for t in (*a.inputs, *a.outputs)],
            ],
        )
        yield _call(
            told,
            "ModelConfig",
            pb.ModelConfigRequest(name=name, version=version),
            lambda a: [
                a.config.name,
                a.config.max_batch_size,
                [[t.name, t.data_type, list(t.dims)] for t in (*a.config.input, *a.config.output)],
            ],
        )
        yield _call(
            told,
            "ModelStatistics",
            pb.ModelStatisticsRequest(name=name, version=version),
            lambda a: sorted({s.name for s in a.model_stats} & {"sum", "two"}),
        )
    yield _call(
        "versions",
        "ModelMetadata",
        pb.ModelMetadataRequest(name="sum"),
        lambda a: sorted(a.versions),
    )
    yield _call(
        "counts after requests",
        "ModelStatistics",
        pb.ModelStatisticsRequest(name="sum", version="1"),
        lambda a: [
            s.inference_stats.success.count > 0 and s.inference_count > 0 for s in a.model_stats
        ],
        before=[_infer("for the counts", infer(version="1"))],
    )
    yield _call(
        "",
        "ServerMetadata",
        pb.ServerMetadataRequest(),
        lambda a: sorted(set(a.extensions) & {"statistics", "model_repository"}),
    )


def _control() -> Iterator[Case]:
    def names(answer: Any) -> list[Any]:
        return sorted(
            [m.name, m.version, m.state] for m in answer.models if m.name in ("sum", "two")
        )

    yield _call("all", "RepositoryIndex", pb.RepositoryIndexRequest(), names)
    yield _call("ready", "RepositoryIndex", pb.RepositoryIndexRequest(ready=True), names)
    unknown = pb.RepositoryModelLoadRequest(model_name="nobody")
    yield _call("unknown model", "RepositoryModelLoad", unknown)
    yield _call(
        "known model", "RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="two")
    )
    yield _call(
        "unknown model",
        "RepositoryModelUnload",
        pb.RepositoryModelUnloadRequest(model_name="nobody"),
    )
    yield from _settings()


def _settings() -> Iterator[Case]:
    def traced(answer: Any) -> Any:
        known = {"trace_level", "trace_rate", "trace_count", "trace_mode"}
        return sorted(known & set(answer.settings))

    def rated(answer: Any) -> Any:
        return list(answer.settings["trace_rate"].value)

    def logged(answer: Any) -> Any:
        return {
            name: getattr(told, told.WhichOneof("parameter_choice"))
            for name, told in answer.settings.items()
            if name != "log_format"
        }

    def trace(name: str, look: Any = traced, model: str = "", **settings: list[str]) -> Case:
        request = pb.TraceSettingRequest(model_name=model)
        for setting, values in settings.items():
            request.settings[setting].value.extend(values)
        return _call(name, "TraceSetting", request, look)

    def log(name: str, **settings: Any) -> Case:
        request = pb.LogSettingsRequest()
        for setting, value in settings.items():
            kind = {bool: "bool_param", int: "uint32_param", str: "string_param"}[type(value)]
            setattr(request.settings[setting], kind, value)
        return _call(name, "LogSettings", request, logged)

    yield trace("ask")
    yield trace("ask for a model", model="sum")
    yield trace("ask for an unknown model", model="nobody")
    yield trace("rate = 7", rated, trace_rate=["7"])
    yield trace("rate of a model", rated, "sum", trace_rate=["5"])
    yield trace("rate = x", rated, trace_rate=["x"])
    yield trace("two rates", rated, trace_rate=["1", "2"])
    yield trace("level OFF", trace_level=["OFF"])
    yield trace("level TIMESTAMPS, nowhere to go", trace_level=["TIMESTAMPS"])
    yield trace("levels OFF and TIMESTAMPS", trace_level=["OFF", "TIMESTAMPS"])
    yield trace("level TENSORS", trace_level=["TENSORS"])
    yield trace("count = -1", trace_count=["-1"])
    yield trace("count = 5", trace_count=["5"])
    yield trace("a file", trace_file=["/tmp/traces"])
    yield trace("unknown setting", bogus=["1"])
    yield log("ask")
    yield log("info off", log_info=False)
    yield log("info on", log_info=True)
    yield log("verbose 1", log_verbose_level=1)
    yield log("verbose 0", log_verbose_level=0)
    yield log("warnings off", log_warning=False)
    yield log("warnings on", log_warning=True)
    yield log("format ISO8601", log_format="ISO8601")
    yield log("format bogus", log_format="bogus")
    yield log("a file", log_file="/tmp/log")
    yield log("info = 3", log_info=3)
    yield log("verbose = true", log_verbose_level=True)
    yield log("unknown setting", bogus=True)


def _memory() -> Iterator[Case]:
    for kind in ("System", "Cuda"):
        status, unregister = f"{kind}SharedMemoryStatus", f"{kind}SharedMemoryUnregister"
        yield _call("all", status, getattr(pb, f"{status}Request")(), lambda a: sorted(a.regions))
        yield _call("unknown", status, getattr(pb, f"{status}Request")(name="nobody"))
        yield _call("all", unregister, getattr(pb, f"{unregister}Request")())
        yield _call("unknown", unregister, getattr(pb, f"{unregister}Request")(name="nobody"))
    handle = pb.CudaSharedMemoryRegisterRequest(
        name="r", raw_handle=b"x" * 64, device_id=0, byte_size=8
    )
    yield _call("no GPU", "CudaSharedMemoryRegister", handle)
    register = "SystemSharedMemoryRegister"
    no_key = pb.SystemSharedMemoryRegisterRequest(name="r", key="/nothing-here", byte_size=8)
    yield _call("no such object", register, no_key)
    missing = infer(raw=None)
    missing.inputs[0].parameters["shared_memory_region"].string_param = "nobody"
    missing.inputs[0].parameters["shared_memory_byte_size"].int64_param = 12
    yield _infer("a region that is not registered", missing)


def _others() -> Iterator[Case]:
    for service in ("", "nobody"):
        yield Case(
            f"health: {service or 'overall'}",
            "grpc.health.v1.Health/Check",
            [health_pb2.HealthCheckRequest(service=service)],
            health_pb2.HealthCheckResponse,
            lambda a: a.status,
        )
    yield Case(
        "reflection: services",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        [reflection_pb2.ServerReflectionRequest(list_services="")],
        reflection_pb2.ServerReflectionResponse,
        lambda a: SERVICE in [s.name for s in a.list_services_response.service],
        stream=True,
    )
    yield Case("no such method", f"{SERVICE}/Nothing", [infer()], pb.ModelInferResponse)
    yield Case("no such service", "a.B/C", [infer()], pb.ModelInferResponse)
