"""The blocking client."""

from __future__ import annotations

import time
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


class Client:
    """Asks one server, or what balances before several; used from any number of threads."""

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
            grpc.insecure_channel(address, options=OPTIONS)
            if credentials is None
            else grpc.secure_channel(address, credentials, options=OPTIONS)
        )
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._ours = gearshift_pb2_grpc.GearshiftStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Calls under way end as CANCELLED."""
        self._channel.close()

    def infer(
        self, model: str, inputs: Mapping[str, Any], **options: Unpack[InferOptions]
    ) -> Answer:
        """The answer to `inputs`, arrays (rows, ...) by name. Raises a ClientError as it is to be
        dealt with, and ValueError for options that cannot be."""
        request = infer_request(model, inputs, options)
        attempts = Attempts(self._retries, options.get("budget"), time.monotonic())
        while True:
            timeout = attempts.begin(request, time.monotonic())
            try:
                return Answer(self._call(self._stub.ModelInfer, request, timeout))
            except grpc.RpcError as failed:
                wait = attempts.failed(error_of(failed), time.monotonic())
            time.sleep(wait)

    def explain(
        self, model: str, **options: Unpack[ExplainOptions]
    ) -> gearshift_pb2.ExplainResponse:
        """What such a request would get now, and why; of a gearshift only."""
        found: gearshift_pb2.ExplainResponse = self._ask(
            self._ours.Explain, explain_request(model, options)
        )
        return found

    def feedback(
        self, model: str, request_id: str, labels: Sequence[int], weight: float | None = None
    ) -> gearshift_pb2.Result:
        """Report what was true of an answer, by its `id`; of a gearshift only."""
        asked = feedback_request(model, request_id, labels, weight)
        found: gearshift_pb2.FeedbackResponse = self._ask(self._ours.Feedback, asked)
        return found.results[0]

    def ready(self, model: str = "") -> bool:
        """Whether the server, or one of its models, takes requests."""
        if model:
            asked = pb.ModelReadyRequest(name=model)
            return bool(self._ask(self._stub.ModelReady, asked).ready)
        return bool(self._ask(self._stub.ServerReady, pb.ServerReadyRequest()).ready)

    def _ask(self, method: Any, asked: Any) -> Any:
        try:
            return self._call(method, asked, None)
        except grpc.RpcError as failed:
            raise error_of(failed) from None

    def _call(self, method: Any, asked: Any, within: float | None) -> Any:
        return method(asked, timeout=within, metadata=self._metadata)
