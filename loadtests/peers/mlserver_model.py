"""A model of MLServer's: its custom runtime, with ONNX Runtime in each of its workers."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    async def load(self) -> bool:
        # Here, and not above: only the workers compute.
        import onnxruntime as ort

        options = ort.SessionOptions()
        # There is a worker process for each core.
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(
            self.settings.parameters.uri, options, ["CPUExecutionProvider"]
        )
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0])
        (values,) = self._session.run(None, {"x": rows})
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("y", values)]
        )
