"""The servicer of `inference.GRPCInferenceService`, but for inference itself: that has a way of
its own (`gearshift.rpc.infer`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from gearshift import __version__
from gearshift.engine import Engine
from gearshift.errors import (
    InvalidInput,
    ModelNotFound,
    NotReady,
    RegionNotFound,
    RequestError,
)
from gearshift.ports import Observing, Repository
from gearshift.rpc import describe, statistics
from gearshift.rpc.cuda_memory import CudaRegion, driver, opened
from gearshift.rpc.observing import ObservingMethods
from gearshift.rpc.permitted import model_for, models_for
from gearshift.rpc.repository import RepositoryMethods
from gearshift.rpc.shared_memory import Kind, Region, SharedMemory
from gearshift.rpc.status import abort

EXTENSIONS = (
    "statistics",
    "model_repository",
    "model_repository(unload_dependents)",
    "model_configuration",
    "parameters",
    "classification",
)
"""Only what really answers; perf_analyzer skips server-side figures without `statistics`."""

Everyone = Callable[[], Awaitable[bytes]]
"""What all processes of this server have counted (`statistics.summed`); TimeoutError if one has
not told in time."""


class InferenceServicer(
    ObservingMethods,
    RepositoryMethods,
    service_pb2_grpc.GRPCInferenceServiceServicer,  # type: ignore[misc]
):
    """Says what is served. Every error leaves through `status.abort`."""

    def __init__(
        self,
        engine: Engine,
        memory: SharedMemory,
        everyone: Everyone | None,
        repository: Repository | None,
        observing: Observing | None,
    ) -> None:
        self._engine = engine
        self._memory = memory
        self._everyone = everyone
        self._repository = repository
        self._observing = observing
        self._cuda = driver() if memory.allowed else None

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ServerLiveResponse(live=self._engine.alive)

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ServerReadyResponse(ready=self._engine.ready)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """An unknown model is not ready, which is an answer and no error."""
        model = self._engine.catalog.models.get(request.name)
        ready = model is not None and self._engine.ready
        if model is not None:
            asked = model.variants
            try:
                version = describe.version_of(model, request.version)
                asked = asked if version is None else (version,)
            except InvalidInput as error:
                await abort(context, error)
            except RequestError:
                ready = False
            # Where memory does not hold every variant.
            away = self._engine.not_resident(model.name)
            ready = ready and any(variant.name not in away for variant in asked)
        return pb.ModelReadyResponse(ready=ready)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        shared = ["system_shared_memory"] if self._memory.allowed else []
        shared += ["cuda_shared_memory"] if self._cuda is not None else []
        observed = ("trace", "logging") if self._observing is not None else ()
        return pb.ServerMetadataResponse(
            name="gearshift", version=__version__, extensions=(*EXTENSIONS, *shared, *observed)
        )

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            model = model_for(context.rights, self._engine.catalog, request.name)
            describe.version_of(model, request.version)
        except RequestError as error:
            await abort(context, error)
            raise
        return describe.metadata(model)

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            model = model_for(context.rights, self._engine.catalog, request.name)
            describe.version_of(model, request.version)
        except RequestError as error:
            await abort(context, error)
            raise
        return describe.config(model)

    async def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Cumulative figures per variant; without a name, of every model. Triton answers an
        unknown name with INVALID_ARGUMENT here, and stock clients know it so."""
        catalog = self._engine.catalog
        models = models_for(context.rights, catalog)
        if request.name:
            try:
                models = [model_for(context.rights, catalog, request.name)]
            except ModelNotFound as error:
                await abort(context, InvalidInput(str(error)))
                raise
            except RequestError as error:
                await abort(context, error)
                raise
        told: dict[tuple[str, str], Any] = {}
        if self._everyone is not None:
            try:
                told = statistics.by_version(await self._everyone())
            except TimeoutError:
                late = NotReady("the other processes did not tell their statistics; try again")
                await abort(context, late)
                raise late from None
        response = pb.ModelStatisticsResponse()
        for model in models:
            try:
                only = describe.version_of(model, request.version)
            except RequestError as error:
                await abort(context, InvalidInput(str(error)))
                raise
            for variant in sorted(model.variants, key=lambda v: v.version):
                if only in (None, variant):
                    stats = told.get((model.name, str(variant.version)))
                    if stats is None:
                        counted = self._engine.telemetry.statistics(model.name, variant.version)
                        stats = describe.statistics(model, variant, counted)
                    response.model_stats.append(stats)
        return response

    async def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            memory = self._memory.of(context.rights.client)
            memory.register(request.name, request.key, request.offset, request.byte_size)
        except RequestError as error:
            await abort(context, error)
        return pb.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._memory.of(context.rights.client).unregister(Region, request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def SystemSharedMemoryStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = pb.SystemSharedMemoryStatusResponse()
        for region in await self._regions(Region, request, context):
            told = response.regions[region.name]
            told.name, told.key = region.name, region.key
            told.offset, told.byte_size = region.offset, region.byte_size
        return response

    async def CudaSharedMemoryRegister(self, request: Any, context: Any) -> Any:  # noqa: N802
        memory, cuda = self._memory.of(context.rights.client), self._cuda
        try:
            memory.check(request.name)
        except RequestError as error:
            await abort(context, error)
        if cuda is None:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                "there is no GPU with CUDA here, and so no CUDA shared memory; use system shared"
                " memory (SystemSharedMemoryRegister) or send the tensors themselves",
            )
            raise AssertionError("abort raises")
        asked = request.name, request.raw_handle, request.device_id, request.byte_size
        try:
            # On a thread, because it takes long where the GPU has not been used before.
            memory.add(await asyncio.to_thread(opened, cuda, *asked))
        except RequestError as error:
            await abort(context, error)
        return pb.CudaSharedMemoryRegisterResponse()

    async def CudaSharedMemoryUnregister(self, request: Any, context: Any) -> Any:  # noqa: N802
        """perf_analyzer begins with this call, wherever it is."""
        self._memory.of(context.rights.client).unregister(CudaRegion, request.name)
        return pb.CudaSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = pb.CudaSharedMemoryStatusResponse()
        for region in await self._regions(CudaRegion, request, context):
            told = response.regions[region.name]
            told.name, told.device_id = region.name, region.device
            told.byte_size = region.byte_size
        return response

    async def _regions(self, kind: type[Kind], request: Any, context: Any) -> Iterable[Kind]:
        """The caller's, as far as they are asked for."""
        try:
            return self._memory.of(context.rights.client).named(kind, request.name)
        except RegionNotFound as error:
            await abort(context, error)
            raise
