"""A server of the Open Inference Protocol that does as it is told, for remote variants."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from gearshift.ports import REMOTE, Worker
from waiting import WITHIN

WORKERS = [Worker(number, REMOTE) for number in range(8)]
ROWS = {"x": np.array([[1, 2, 3], [4, 5, 6]], np.float32)}
SUMS = [[6.0], [15.0]]


class RemoteServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Has the model `m`, which sums each row of x[3] into y[1]. `infer` may be exchanged; `gate`
    holds up what is being run while it is cleared, and `speaks` every answer."""

    def __init__(
        self,
        name: str = "triton",
        credentials: grpc.ServerCredentials | None = None,
        port: int = 0,
    ) -> None:
        self.name = name
        self.most_rows: int | None = 8
        self.shape = [-1, 3]
        self.datatype = "FP32"
        self.given = [-1, 1]
        self.has_model = True
        self.asked: list[pb.ModelInferRequest] = []
        self.left: list[float] = []
        """Seconds that callers still had."""
        self.metadata: list[dict[str, str]] = []
        self.cancelled = 0
        self.under_way = self.most_under_way = 0
        self.gate = threading.Event()
        self.gate.set()
        self.speaks = threading.Event()
        self.speaks.set()
        self.infer: Callable[[pb.ModelInferRequest], pb.ModelInferResponse] = summed
        self._credentials = credentials
        self._lock = threading.Lock()
        self.port = port
        self.start()

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def start(self) -> None:
        """On the same port as before, if there was one."""
        options = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1))
        self._server = grpc.server(ThreadPoolExecutor(32), options=options)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        place = f"localhost:{self.port}"
        if self._credentials is None:
            self.port = self._server.add_insecure_port(place)
        else:
            self.port = self._server.add_secure_port(place, self._credentials)
        self._server.start()

    def stop(self) -> None:
        self.gate.set()
        self.speaks.set()
        self._server.stop(None).wait(WITHIN)

    close = stop

    # --- the protocol -------------------------------------------------------------------

    def ServerLive(self, request, context):  # noqa: N802
        self.speaks.wait(WITHIN)
        return pb.ServerLiveResponse(live=True)

    def ServerMetadata(self, request, context):  # noqa: N802
        return pb.ServerMetadataResponse(name=self.name)

    def ModelReady(self, request, context):  # noqa: N802
        return pb.ModelReadyResponse(ready=self.has_model)

    def ModelMetadata(self, request, context):  # noqa: N802
        if request.name != "m":
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.name}")
        told = pb.ModelMetadataResponse(name="m")
        told.inputs.add(name="x", datatype=self.datatype, shape=self.shape)
        told.outputs.add(name="y", datatype=self.datatype, shape=self.given)
        return told

    def ModelConfig(self, request, context):  # noqa: N802
        if self.most_rows is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")
        told = pb.ModelConfigResponse()
        told.config.max_batch_size = self.most_rows
        return told

    def ModelInfer(self, request, context):  # noqa: N802
        with self._lock:
            self.asked.append(request)
            self.left.append(context.time_remaining() or float("inf"))
            self.metadata.append(dict(context.invocation_metadata()))
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        over = threading.Event()
        context.add_callback(over.set)
        try:
            while not self.gate.wait(0.005):
                if over.is_set():
                    with self._lock:
                        self.cancelled += 1
                    context.abort(grpc.StatusCode.CANCELLED, "the caller has left")
            try:
                return self.infer(request)
            except Refuses as refused:
                context.abort(refused.code, "on purpose")
        finally:
            with self._lock:
                self.under_way -= 1


class Refuses(Exception):
    """Raised by `infer`: the call ends with that status."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(code.name)
        self.code = code


def summed(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    rows = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(-1, 3)
    told = pb.ModelInferResponse(model_name="m")
    told.outputs.add(name="y", datatype="FP32", shape=[len(rows), 1])
    told.raw_output_contents.append(rows.sum(axis=1, dtype=np.float32).tobytes())
    return told


def refusing(code: grpc.StatusCode):
    def infer(request):
        raise Refuses(code)

    return infer
