"""A model of Triton's Python backend: ONNX Runtime on the batch that Triton has put together."""

import json
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        options = ort.SessionOptions()
        # There is an instance of the model for each core.
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(
            config["parameters"]["artifact"]["string_value"], options, ["CPUExecutionProvider"]
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        parts = [pb_utils.get_input_tensor_by_name(each, "x").as_numpy() for each in requests]
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        (values,) = self._session.run(None, {"x": rows})
        answers, start = [], 0
        for part in parts:
            mine = values[start : start + len(part)]
            start += len(part)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", mine)]))
        return answers
