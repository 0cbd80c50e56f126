"""The model of one variant on one server: is it there, is it still what it was, does it fail?

A server that comes back may be another one: with another model of that name, or none yet. So
each is asked again what it has whenever its model gets ready, and whenever what it answers is odd.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Callable

import grpc
import structlog
from tritonclient.grpc import service_pb2 as pb

from gearshift.core.breaker import Breaker, State
from gearshift.core.catalog import Signature, TensorSpec
from gearshift.executors.remote.endpoint import Endpoint, reason
from gearshift.executors.remote.remembered import Told
from gearshift.executors.remote.signatures import signature

log = structlog.get_logger(__name__)

ASKED_WITHIN = 5.0
"""Seconds for a server to say what a model takes and gives."""

_RUNS = itertools.count(1)


class Hosted:
    """A guest of `endpoint`. `returned` is called when it can be used again."""

    def __init__(
        self,
        endpoint: Endpoint,
        name: str,
        version: str,
        wanted: Told,
        returned: Callable[[], None],
    ) -> None:
        """`wanted`: what it must take and give, and the rows that it must take."""
        self.endpoint = endpoint
        self.version = version
        self.fit = False
        self.unfit = ""
        self._name = name
        self._wanted = wanted
        self._returned = returned
        self._doubted = True
        # Of this server alone; the engine has one for the variant, on all of them together.
        self._breaker = Breaker(random.Random())

    @property
    def usable(self) -> bool:
        return self.endpoint.live and self.fit

    @property
    def room(self) -> bool:
        return self.endpoint.room and self.fit

    @property
    def why(self) -> str:
        """Why it cannot be used."""
        return f"{self.endpoint.address}: {self.endpoint.why or self.unfit or 'it is busy'}"

    def sound(self, now: float) -> bool:
        """Whether it should be asked before one that is not."""
        return self._breaker.state is State.CLOSED or self._breaker.may_try(now)

    # --- what it has --------------------------------------------------------------------

    async def look(self) -> None:
        try:
            async with asyncio.timeout(ASKED_WITHIN):
                why = await self._looked()
        except TimeoutError:
            why = f"it has not said in {ASKED_WITHIN:g} s what its model {self._name!r} is"
        except grpc.aio.AioRpcError as error:
            why = reason(error)
        except ValueError as error:
            why = str(error)
        if why:
            if why != self.unfit:
                names = {"server": self.endpoint.address, "model": self._name}
                log.warning("a remote model cannot be used", **names, reason=why)
            self.fit, self.unfit = False, why
            return
        self._doubted = False
        if not self.fit:
            self.fit, self.unfit = True, ""
            self._breaker.hope()
            self._returned()

    async def _looked(self) -> str:
        """What is wrong with it, "" for nothing."""
        shown = self.endpoint.metadata()
        asked = pb.ModelReadyRequest(name=self._name, version=self.version)
        found = await self.endpoint.stub.ModelReady(asked, timeout=ASKED_WITHIN, metadata=shown)
        if not found.ready:
            self._doubted = True
            return f"it says that its model {self._name!r} is not ready"
        if not self._doubted:
            return ""
        told = await ask(self.endpoint, self._name, self.version)
        if not _same(told.signature, self._wanted.signature):
            return (
                f"its model {self._name!r} has {_text(told.signature)} now, and this one has"
                f" {_text(self._wanted.signature)}: load the model again here, or put it back there"
            )
        if told.most_rows < self._wanted.most_rows:
            return (
                f"its model {self._name!r} takes {told.most_rows:g} rows now, and batches have up"
                f" to {self._wanted.most_rows:g}"
            )
        return ""

    def left(self) -> None:
        self.fit, self._doubted = False, True

    def doubt(self) -> None:
        """It does not answer as it should: is it still what it was?"""
        self._doubted = True
        self.endpoint.hurry()

    # --- runs ---------------------------------------------------------------------------

    def began(self) -> int:
        """The number of a run there."""
        run = next(_RUNS)
        self._breaker.began(run)
        return run

    def worked(self, run: int) -> None:
        self._breaker.worked(run)

    def failed(self, run: int) -> None:
        self._breaker.failed(run, asyncio.get_running_loop().time())

    def inconclusive(self, run: int) -> None:
        self._breaker.inconclusive(run)


async def ask(endpoint: Endpoint, name: str, version: str) -> Told:
    """What it says of a model. grpc.aio.AioRpcError as it comes; ValueError for a model that
    cannot be served, or credentials that cannot be read."""
    asked = pb.ModelMetadataRequest(name=name, version=version)
    shown = endpoint.metadata()
    found = await endpoint.stub.ModelMetadata(asked, timeout=ASKED_WITHIN, metadata=shown)
    most, batches = await _batches(endpoint, name, version)
    return Told(signature(found, batches), most)


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


def _same(one: Signature, other: Signature) -> bool:
    """In whatever order: tensors travel by name."""
    return set(one.inputs) == set(other.inputs) and set(one.outputs) == set(other.outputs)


def _text(told: Signature) -> str:
    def each(spec: TensorSpec) -> str:
        return f"{spec.name} {spec.datatype}{list(spec.shape)}"

    return f"{', '.join(map(each, told.inputs))} -> {', '.join(map(each, told.outputs))}"
