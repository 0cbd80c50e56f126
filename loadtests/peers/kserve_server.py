"""KServe's Python server with ONNX Runtime, as many processes as asked for on one gRPC port.

`python kserve_server.py PORT PROCESSES MODELS_FOLDER`

KServe's own `workers` multiplies only its HTTP side, so each process is a whole server; gRPC
lets them share the port.
"""

import socket
import subprocess
import sys
from pathlib import Path

import onnxruntime as ort
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class OnnxModel(Model):
    def __init__(self, name: str, artifact: Path) -> None:
        super().__init__(name)
        options = ort.SessionOptions()
        # There is a process for each core.
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(artifact, options, ["CPUExecutionProvider"])
        self.ready = True

    def predict(self, payload: InferRequest, headers: object = None) -> InferResponse:
        (values,) = self._session.run(None, {"x": payload.inputs[0].as_numpy()})
        output = InferOutput("y", list(values.shape), "FP32")
        output.set_data_from_numpy(values, binary_data=True)
        return InferResponse(payload.id, self.name, [output], use_binary_outputs=True)


def serve(port: int, folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        http_port = probe.getsockname()[1]
    server = ModelServer(http_port=http_port, grpc_port=port, enable_latency_logging=False)
    server.start([OnnxModel(path.parent.name, path) for path in folder.glob("*/model.onnx")])


if __name__ == "__main__":
    port, processes, folder = sys.argv[1:]
    if int(processes) > 1:
        again = [sys.executable, __file__, port, "1", folder]
        others = [subprocess.Popen(again) for _ in range(int(processes) - 1)]
    serve(int(port), Path(folder))
