"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Self, Unpack

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from gearshift.client.answers import Answer, InferOptions, infer_request
from gearshift.client.asking import ExplainOptions, explain_request, feedback_request
from gearshift.client.connecting import OPTIONS, Access, credentials_of, metadata_of
from gearshift.client.errors import error_of
from gearshift.client.retrying import Attempts, Retries
from gearshift.v1 import gearshift_pb2, gearshift_pb2_grpc


class AsyncClient:
    """Asks one server, or what balances before several; used on one event loop."""

    def __init__(
        self,
        address: str = "localhost:8001",
        *,
        retries: Retries | None = None,
        **access: Unpack[Access],
    ) -> None:
        """ValueError for ways to speak to it that cannot be meant."""
        credentials = credentials_of(access)
        self._metadata = metadata_of(access)
        self._retries = retries or Retries()
        self._channel = (
            grpc.aio.insecure_channel(address, options=OPTIONS)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options=OPTIONS)
        )
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._ours = gearshift_pb2_grpc.GearshiftStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Calls under way end as CANCELLED."""
        await self._channel.close()

    async def infer(
        self, model: str, inputs: Mapping[str, Any], **options: Unpack[InferOptions]
    ) -> Answer:
        """The answer to `inputs`, arrays (rows, ...) by name. Raises a ClientError as it is to be
        dealt with, and ValueError for options that cannot be."""
        request = infer_request(model, inputs, options)
        loop = asyncio.get_running_loop()
        attempts = Attempts(self._retries, options.get("budget"), loop.time())
        while True:
            timeout = attempts.begin(request, loop.time())
            try:
                return Answer(await self._call(self._stub.ModelInfer, request, timeout))
            except grpc.aio.AioRpcError as failed:
                wait = attempts.failed(error_of(failed), loop.time())
            await asyncio.sleep(wait)

    async def explain(
        self, model: str, **options: Unpack[ExplainOptions]
    ) -> gearshift_pb2.ExplainResponse:
        """What such a request would get now, and why; of a gearshift only."""
        found: gearshift_pb2.ExplainResponse = await self._ask(
            self._ours.Explain, explain_request(model, options)
        )
        return found

    async def feedback(
        self, model: str, request_id: str, labels: Sequence[int], weight: float | None = None
    ) -> gearshift_pb2.Result:
        """Report what was true of an answer, by its `id`; of a gearshift only."""
        asked = feedback_request(model, request_id, labels, weight)
        found: gearshift_pb2.FeedbackResponse = await self._ask(self._ours.Feedback, asked)
        return found.results[0]

    async def ready(self, model: str = "") -> bool:
        """Whether the server, or one of its models, takes requests."""
        if model:
            asked = pb.ModelReadyRequest(name=model)
            return bool((await self._ask(self._stub.ModelReady, asked)).ready)
        return bool((await self._ask(self._stub.ServerReady, pb.ServerReadyRequest())).ready)

    async def _ask(self, method: Any, asked: Any) -> Any:
        try:
            return await self._call(method, asked, None)
        except grpc.aio.AioRpcError as failed:
            raise error_of(failed) from None

    async def _call(self, method: Any, asked: Any, within: float | None) -> Any:
        return await method(asked, timeout=within, metadata=self._metadata)
