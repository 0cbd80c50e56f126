"""The executor whose workers are elsewhere: places on servers of the Open Inference Protocol, such
as Triton, KServe, MLServer, or another gearshift.

All of its calls are made on an event loop and a thread of its own: tensors are packed and unpacked
there, and nothing that a server far away does can hold up the loop that serves.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import structlog
from tritonclient.grpc import service_pb2 as pb

from gearshift.artifacts import read_again
from gearshift.client.tensors import outputs, request
from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Model, Signature, Variant
from gearshift.errors import ExecutorUnavailable
from gearshift.executors.key import Key, key, not_loaded
from gearshift.executors.remote.endpoint import Endpoint, reason
from gearshift.executors.remote.intent import Remote, model_of, read_remote
from gearshift.executors.remote.pool import Pool
from gearshift.executors.remote.remembered import Remembered, Told
from gearshift.executors.remote.signatures import signature
from gearshift.ports import REMOTE, Tensors, Worker

log = structlog.get_logger(__name__)

ASKED_WITHIN = 5.0
"""Seconds for a server to say what a model takes and gives."""

ENDED_WITHIN = 5.0

Result = TypeVar("Result")


@dataclass(slots=True)
class _Loaded:
    remote: Remote
    name: str
    pool: Pool


class RemoteExecutor:
    """Runs `remote.toml` artifacts. What servers said of their models is kept under `state`, so
    that a start does not depend on theirs."""

    def __init__(self, state: Path) -> None:
        self._remembered = Remembered(state / "remote")
        self._loaded: dict[Key, _Loaded] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._free = asyncio.Event()
        self._returned: Callable[[], None] = _nobody
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._mutex = threading.Lock()

    @property
    def devices(self) -> tuple[str, ...]:
        return (REMOTE,)

    @property
    def identity(self) -> str:
        return "remote"

    @property
    def runs_here(self) -> bool:
        return False

    @property
    def slots(self) -> int:
        """Batches that all servers together are given at a time."""
        return sum(each.slots for each in self._endpoints.values())

    def on_return(self, returned: Callable[[], None]) -> None:
        """Whom to tell, on a thread of this executor's, that a server is ready again."""
        self._returned = returned

    # --- loading: these block -----------------------------------------------------------

    def inspect(self, artifact: Artifact) -> Signature:
        """What a server says; what one has said before, if none can be reached."""
        remote = read_remote(artifact)
        return self._told(remote, model_of(artifact), artifact).signature

    def load(self, model: Model, variant: Variant) -> None:
        artifact = read_again(variant)
        remote = read_remote(artifact)
        told = self._told(remote, model.name, artifact)
        if told.most_rows < model.max_batch_size:
            raise ValueError(
                f"its servers take batches of {told.most_rows:g} rows, and those of this model have"
                f" up to {model.max_batch_size}; lower max_batch_size here, or raise it there"
            )
        name = remote.name(model.name)
        pool = self._do(self._made_pool(remote), 2 * ASKED_WITHIN)
        with self._mutex:
            self._loaded[key(model, variant)] = _Loaded(remote, name, pool)

    def unload(self, model: Model, variant: Variant) -> None:
        name = key(model, variant)
        with self._mutex:
            loaded = self._loaded.pop(name, None)
            used = {
                _named(address, each.remote)
                for each in self._loaded.values()
                for address in each.remote.servers
            }
        if loaded is None:
            return

        async def drop() -> None:
            for endpoint in loaded.pool.endpoints:
                endpoint.forget(lambda kind: isinstance(kind, tuple) and kind[0] == name)
            for each in [each for each in self._endpoints if each not in used]:
                await self._endpoints.pop(each).close()

        self._do(drop(), ENDED_WITHIN)

    def _told(self, remote: Remote, model: str, artifact: Artifact) -> Told:
        """What a server says of the model. ValueError if none ever has."""
        try:
            told = self._do(self._ask(remote, remote.name(model)), 3 * ASKED_WITHIN)
        except ExecutorUnavailable as error:
            kept = self._remembered.read(artifact.sha256())
            if kept is None:
                raise ValueError(
                    f"{error}, and none has said yet what it takes and gives"
                ) from None
            log.warning("a remote model is served as it was", model=model, reason=str(error))
            return kept
        self._remembered.write(artifact.sha256(), told)
        return told

    async def _ask(self, remote: Remote, name: str) -> Told:
        """ExecutorUnavailable if no server can be reached, ValueError if it cannot be served."""
        unreachable = []
        for address in remote.servers:
            endpoint = Endpoint(address, remote, _ignored)
            stub, metadata = endpoint.stub, endpoint.metadata()
            try:
                asked = pb.ModelMetadataRequest(name=name, version=remote.version)
                found = await stub.ModelMetadata(asked, timeout=ASKED_WITHIN, metadata=metadata)
                most, batches = await _batches(endpoint, name, remote.version)
                return Told(signature(found, batches), most)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _UNREACHABLE:
                    raise ValueError(f"{address} says {reason(error)}") from None
                unreachable.append(f"{address}: {reason(error)}")
            finally:
                await endpoint.close()
        raise ExecutorUnavailable(f"no remote server can be reached ({'; '.join(unreachable)})")

    async def _made_pool(self, remote: Remote) -> Pool:
        names = [_named(address, remote) for address in remote.servers]
        new = {
            name: Endpoint(address, remote, self._turned)
            for name, address in zip(names, remote.servers, strict=True)
            if name not in self._endpoints
        }
        self._endpoints |= new
        await asyncio.gather(*(endpoint.begin() for endpoint in new.values()))
        return Pool([self._endpoints[name] for name in names], self._free)

    def _turned(self, endpoint: Endpoint) -> None:
        self._free.set()
        if endpoint.ready:
            self._returned()

    # --- runs -----------------------------------------------------------------------------

    async def run(
        self,
        worker: Worker,
        model: Model,
        variant: Variant,
        inputs: Tensors,
        within: float = math.inf,
    ) -> Tensors:
        loaded = self._loaded.get(key(model, variant))
        if loaded is None:
            raise not_loaded(model, variant)
        return await asyncio.wrap_future(
            self._begin(self._run(loaded, model, variant, inputs, within))
        )

    async def _run(
        self, loaded: _Loaded, model: Model, variant: Variant, inputs: Tensors, within: float
    ) -> Tensors:
        halves = {spec.name for spec in model.signature.inputs if spec.datatype == "BF16"}
        asked = request(loaded.name, loaded.remote.version, inputs, halves)
        if any(endpoint.ours for endpoint in loaded.pool.endpoints):
            # It may choose among variants of its own, none of which may be worse than this one.
            if not loaded.remote.version:
                asked.parameters["min_accuracy"].double_param = variant.accuracy
            if within < math.inf:
                asked.parameters["latency_budget_ms"].double_param = 1e3 * max(0.001, within)
        rows = len(next(iter(inputs.values())))
        kind = key(model, variant), rows
        return outputs(await loaded.pool.infer(asked, within, kind))

    def run_here(self, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        raise ExecutorUnavailable("remote servers run nothing on the caller's thread")

    async def replace(self, worker: Worker) -> None:
        """A place elsewhere needs no making: the call was cancelled, and so ended there, too."""

    @property
    def stuck(self) -> int:
        return 0

    def close(self) -> None:
        with self._mutex:
            self._loaded.clear()
        if self._loop is None or self._thread is None:
            return

        async def end() -> None:
            for endpoint in self._endpoints.values():
                await endpoint.close()
            self._endpoints.clear()

        self._do(end(), ENDED_WITHIN)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ENDED_WITHIN)
        self._loop.close()
        self._loop = self._thread = None

    # --- the loop -------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, Result], within: float) -> Result:
        """Its result, waited for. ExecutorUnavailable if that takes too long."""
        future = self._begin(work)
        try:
            return future.result(within)
        except TimeoutError:
            future.cancel()
            raise ExecutorUnavailable(f"no remote server has answered in {within:g} s") from None

    def _begin(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        with self._mutex:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="remote", daemon=True
                )
                self._thread.start()
            loop = self._loop
        return asyncio.run_coroutine_threadsafe(work, loop)


ALIKE = ("slots", "tls", "ca_file", "token_file")
"""What of `remote.toml` decides how a server is spoken to."""

_UNREACHABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


async def _batches(endpoint: Endpoint, name: str, version: str) -> tuple[float, bool]:
    """The most rows of a batch there, and whether the first dimension is theirs even where the
    metadata do not show it. Servers without ModelConfig (MLServer, KServe) do not say."""
    asked = pb.ModelConfigRequest(name=name, version=version)
    try:
        found = await endpoint.stub.ModelConfig(
            asked, timeout=ASKED_WITHIN, metadata=endpoint.metadata()
        )
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return math.inf, False
        raise
    most = found.config.max_batch_size
    return (float(most), True) if most else (math.inf, False)


def _named(address: str, remote: Remote) -> str:
    """Servers that are spoken to alike are one, whichever variant names them."""
    return f"{address} {remote.model_dump_json(include=set(ALIKE))}"


def _ignored(endpoint: Endpoint) -> None:
    """Who only asks does not care."""


def _nobody() -> None:
    """Nobody wants to know."""
