"""The servicer of `inference.GRPCInferenceService`, but for inference itself: that has a way of
its own (`gearshift.rpc.infer`)."""

from __future__ import annotations

from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from gearshift import __version__
from gearshift.engine import Engine
from gearshift.errors import InvalidInput, RequestError
from gearshift.rpc import describe
from gearshift.rpc.status import abort

EXTENSIONS = ("statistics", "model_repository", "model_configuration", "parameters")
"""Only what really answers; perf_analyzer skips server-side figures without `statistics`."""

UNSERVED = (
    "RepositoryModelLoad",
    "RepositoryModelUnload",
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryRegister",
    "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus",
    "CudaSharedMemoryRegister",
    "CudaSharedMemoryUnregister",
    "TraceSetting",
    "LogSettings",
)


class InferenceServicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Says what is served. Every error leaves through `status.abort`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ServerReadyResponse(ready=self._engine.ready)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """An unknown model is not ready, which is an answer and no error."""
        model = self._engine.catalog.models.get(request.name)
        ready = model is not None and self._engine.ready
        if model is not None and request.version:
            try:
                describe.version_of(model, request.version)
            except InvalidInput as error:
                await abort(context, error)
            except RequestError:
                ready = False
        return pb.ModelReadyResponse(ready=ready)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ServerMetadataResponse(
            name="gearshift", version=__version__, extensions=EXTENSIONS
        )

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            model = self._engine.catalog.model(request.name)
            describe.version_of(model, request.version)
        except RequestError as error:
            await abort(context, error)
            raise
        return describe.metadata(model)

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            model = self._engine.catalog.model(request.name)
            describe.version_of(model, request.version)
        except RequestError as error:
            await abort(context, error)
            raise
        return describe.config(model)

    async def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Cumulative figures per variant; without a name, of every model. Triton answers an
        unknown name with INVALID_ARGUMENT here, and stock clients know it so."""
        catalog = self._engine.catalog
        models = list(catalog.models.values())
        if request.name:
            named = catalog.models.get(request.name)
            if named is None:
                known = ", ".join(sorted(catalog.models))
                error = InvalidInput(
                    f"no model {request.name!r} is served here; there are: {known}"
                )
                await abort(context, error)
                raise error
            models = [named]
        response = pb.ModelStatisticsResponse()
        for model in models:
            try:
                only = describe.version_of(model, request.version)
            except RequestError as error:
                await abort(context, InvalidInput(str(error)))
                raise
            for variant in sorted(model.variants, key=lambda v: v.version):
                if only in (None, variant):
                    counted = self._engine.telemetry.statistics(model.name, variant.version)
                    response.model_stats.append(describe.statistics(model, variant, counted))
        return response

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        return describe.index(self._engine.catalog, self._engine.ready, request.ready)


def _unserved(name: str) -> Any:
    async def refuse(self: Any, request: Any, context: Any) -> None:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, f"gearshift {__version__} does not serve {name}"
        )

    return refuse


for _name in UNSERVED:
    setattr(InferenceServicer, _name, _unserved(_name))
