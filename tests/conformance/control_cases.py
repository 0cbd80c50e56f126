"""Everything but inference over gRPC, right and wrong, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2 as pb

from conformance.case import Case
from conformance.cases import SERVICE, asked, infer


def control_cases() -> Iterator[Case]:
    yield from _about()
    yield from _control()
    yield from _memory()
    yield from _others()


def _call(
    name: str, rpc: str, request: Any, look: Callable[[Any], Any] = lambda _: None, **more: Any
) -> Case:
    answer = getattr(pb, f"{rpc}Response")
    return Case(f"{rpc}: {name}", f"{SERVICE}/{rpc}", [request], answer, look, **more)


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
        before=[asked("for the counts", infer(version="1"))],
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
    yield trace("a model has what all have", rated, "sum")
    yield trace("rate of a model", rated, "sum", trace_rate=["5"])
    yield trace("that of all is the same", rated)
    yield trace("that of another model is the same", rated, "two")
    yield trace("rate = 9", rated, trace_rate=["9"])
    yield trace("a model keeps its own", rated, "sum")
    yield trace("a model without its own follows", rated, "two")
    yield trace("a model has what all have again", rated, "sum", trace_rate=[])
    yield trace("level OFF of a model", rated, "sum", trace_level=["OFF"])
    yield trace("level TIMESTAMPS of a model", rated, "sum", trace_level=["TIMESTAMPS"])
    yield trace("no level of a model", rated, "sum", trace_level=[])
    yield trace("rate of an unknown model", rated, "nobody", trace_rate=["5"])
    yield trace("rate of a model = x", rated, "sum", trace_rate=["x"])
    yield trace("unknown setting of a model", model="sum", bogus=["1"])
    yield trace("count of a model", model="sum", trace_count=["5"])
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
    yield asked("a region that is not registered", missing)


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
