"""What the transport and the model cost without gearshift: a bare asyncio gRPC handler.

No queue, no batching, no routing, no metrics: it decodes, runs one ONNX artifact on a thread
and answers. The yardstick of `bench.py`.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import onnxruntime as ort
import uvloop
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc


class Bare(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, artifact: str, workers: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(artifact, options, ["CPUExecutionProvider"])
        self._threads = ThreadPoolExecutor(workers)
        (tensor,) = self._session.get_inputs()
        self._name = tensor.name
        self._dtype = np.uint8 if "uint8" in tensor.type else np.float32

    async def ModelInfer(self, request, context):  # noqa: N802
        shape = tuple(request.inputs[0].shape)
        array = np.frombuffer(request.raw_input_contents[0], self._dtype).reshape(shape)
        loop = asyncio.get_running_loop()
        (output,) = await loop.run_in_executor(
            self._threads, self._session.run, None, {self._name: array}
        )
        response = pb.ModelInferResponse(model_name=request.model_name)
        response.outputs.add(name="y", datatype="FP32", shape=output.shape)
        response.raw_output_contents.append(output.tobytes())
        return response


async def main(artifact: str, workers: str) -> None:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
        Bare(artifact, int(workers)), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:3]))
