"""What one writes first: a gRPC handler that runs ONNX Runtime. No queue, batching or routing.

`python loadtests/peers/plain_server.py sync|asyncio PORT PROCESSES MODELS_FOLDER`

Processes share the port (SO_REUSEPORT): the kernel gives each of them some of the connections.
`sync` is grpcio's server with threads, `asyncio` its asyncio server on uvloop; both run the
model where the call is handled.
"""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import onnxruntime as ort
import uvloop
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

OPTIONS = [("grpc.so_reuseport", 1), ("grpc.max_receive_message_length", -1)]
THREADS = 8
"""Handlers of a synchronous process. More would not help two cores."""


def load(folder: Path) -> dict[str, ort.InferenceSession]:
    options = ort.SessionOptions()
    # Each process has a core.
    options.intra_op_num_threads = 1
    return {
        path.parent.name: ort.InferenceSession(path, options, ["CPUExecutionProvider"])
        for path in folder.glob("*/model.onnx")
    }


def answer(
    sessions: dict[str, ort.InferenceSession], request: pb.ModelInferRequest
) -> pb.ModelInferResponse:
    tensor = request.inputs[0]
    rows = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(tuple(tensor.shape))
    (values,) = sessions[request.model_name].run(None, {tensor.name: rows})
    response = pb.ModelInferResponse(model_name=request.model_name, model_version="1")
    response.outputs.add(name="y", datatype="FP32", shape=values.shape)
    response.raw_output_contents.append(values.tobytes())
    return response


class Synchronous(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, folder: Path) -> None:
        self._sessions = load(folder)

    def ModelInfer(  # noqa: N802
        self, request: pb.ModelInferRequest, context: object
    ) -> pb.ModelInferResponse:
        return answer(self._sessions, request)


class Asynchronous(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, folder: Path) -> None:
        self._sessions = load(folder)

    async def ModelInfer(  # noqa: N802
        self, request: pb.ModelInferRequest, context: object
    ) -> pb.ModelInferResponse:
        return answer(self._sessions, request)


def serve_sync(port: int, folder: Path) -> None:
    server = grpc.server(ThreadPoolExecutor(THREADS), options=OPTIONS)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Synchronous(folder), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def serve_asyncio(port: int, folder: Path) -> None:
    async def serve() -> None:
        server = grpc.aio.server(options=OPTIONS)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Asynchronous(folder), server)
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()

    uvloop.run(serve())


def main() -> None:
    style, port, processes, folder = sys.argv[1:]
    serve = {"sync": serve_sync, "asyncio": serve_asyncio}[style]
    # grpcio does not survive a fork once it is used, so each process starts afresh.
    spawn = multiprocessing.get_context("spawn")
    others = [
        spawn.Process(target=serve, args=(int(port), Path(folder)), daemon=True)
        for _ in range(int(processes) - 1)
    ]
    for process in others:
        process.start()
    serve(int(port), Path(folder))


if __name__ == "__main__":
    main()
