"""The executor whose workers are elsewhere: places on servers of the Open Inference Protocol, such
as Triton, KServe, MLServer, or another gearshift.

All of its calls are made on an event loop and a thread of its own: tensors are packed and unpacked
there, and nothing that a server far away does can hold up the loop that serves.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine, Sequence
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
from gearshift.engine.outputs import check_outputs
from gearshift.errors import ExecutorUnavailable
from gearshift.executors.key import Key, key, not_loaded
from gearshift.executors.remote.endpoint import Endpoint, reason
from gearshift.executors.remote.hosted import ASKED_WITHIN, Hosted, ask
from gearshift.executors.remote.intent import FILES, Remote, model_of, read_remote
from gearshift.executors.remote.pool import Asked, Pool
from gearshift.executors.remote.remembered import Remembered, Told
from gearshift.ports import REMOTE, Placed, Tensors, Worker

log = structlog.get_logger(__name__)

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
        """Whom to tell, on a thread of this executor's, that a model can be run again on a server
        that did not have it."""
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
        wanted = Told(model.signature, model.max_batch_size)
        pool = self._do(self._made_pool(remote, name, wanted), 2 * ASKED_WITHIN)
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
            for hosted in loaded.pool.hosted:
                hosted.endpoint.guests.discard(hosted)
                hosted.endpoint.observed.forget(
                    lambda kind: isinstance(kind, tuple) and kind[0] == name
                )
            for each in [each for each in self._endpoints if each not in used]:
                await self._endpoints.pop(each).close()

        self._do(drop(), ENDED_WITHIN)

    def placed(self, model: Model, variant: Variant) -> Sequence[Placed]:
        there = key(model, variant) in self._loaded
        return [Placed(REMOTE, "remote")] if there else []

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
        """What the first of them says that can. ExecutorUnavailable if none does, ValueError if it
        cannot be served."""

        async def one(address: str) -> Told | str:
            endpoint = Endpoint(address, remote, _nobody)
            try:
                return await ask(endpoint, name, remote.version)
            except grpc.aio.AioRpcError as error:
                return f"{address} says {reason(error)}"
            finally:
                await endpoint.close()

        said = await asyncio.gather(*(one(address) for address in remote.servers))
        for each in said:
            if isinstance(each, Told):
                return each
        raise ExecutorUnavailable(
            f"no remote server says what its model {name!r} is ({'; '.join(map(str, said))})"
        )

    async def _made_pool(self, remote: Remote, name: str, wanted: Told) -> Pool:
        """Looked at: what is there can be run."""
        hosts = []
        new = []
        for address in remote.servers:
            shared = _named(address, remote)
            endpoint = self._endpoints.get(shared)
            if endpoint is None:
                endpoint = self._endpoints[shared] = Endpoint(address, remote, self._free.set)
                new.append(endpoint)
            hosts.append(Hosted(endpoint, name, remote.version, wanted, lambda: self._returned()))
            endpoint.guests.add(hosts[-1])
        await asyncio.gather(*(endpoint.begin() for endpoint in new))
        await asyncio.gather(*(each.look() for each in hosts if each.endpoint.live))
        return Pool(hosts, self._free)

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
        running = self._run(loaded, key(model, variant), model, variant, inputs, within)
        try:
            return await asyncio.wrap_future(self._begin(running))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling() == 0:
                raise ExecutorUnavailable("remote servers are given up: this one ends") from None
            raise

    async def _run(
        self,
        loaded: _Loaded,
        name: Key,
        model: Model,
        variant: Variant,
        inputs: Tensors,
        within: float,
    ) -> Tensors:
        version = loaded.remote.version
        halves = {spec.name for spec in model.signature.inputs if spec.datatype == "BF16"}
        plain = request(loaded.name, version, inputs, halves)
        rows = len(next(iter(inputs.values())))

        def asked(endpoint: Endpoint, within: float) -> pb.ModelInferRequest:
            if not endpoint.ours:
                return plain
            message = pb.ModelInferRequest()
            message.CopyFrom(plain)
            if not version:
                # It may choose among variants of its own, none of which may be worse than this.
                message.parameters["min_accuracy"].double_param = variant.accuracy
            if loaded.remote.service_class is not None:
                message.parameters["service_class"].string_param = loaded.remote.service_class
            if within < math.inf:
                message.parameters["latency_budget_ms"].double_param = 1e3 * within
            return message

        def read(answer: pb.ModelInferResponse) -> Tensors:
            found = outputs(answer)
            check_outputs(model, found, rows)
            return {spec.name: found[spec.name] for spec in model.signature.outputs}

        until = asyncio.get_running_loop().time() + within
        # Batches that are about as large take about as long.
        kind = (name, (rows - 1).bit_length())
        return await loaded.pool.infer(Asked(asked, until, kind, read))

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
            # Whoever still waits for a run must hear that it is over.
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

        try:
            self._do(end(), ENDED_WITHIN)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(ENDED_WITHIN)
            if not self._thread.is_alive():
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


ALIKE = ("slots", "tls", *FILES)
"""What of `remote.toml` decides how a server is spoken to."""


def _named(address: str, remote: Remote) -> str:
    """Servers that are spoken to alike are one, whichever variant names them."""
    return f"{address} {remote.model_dump_json(include=set(ALIKE))}"


def _nobody() -> None:
    """Nobody wants to know."""
