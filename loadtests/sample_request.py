"""Requests to the shipped models, from the rows that they bring along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tritonclient.grpc import service_pb2 as pb

REPOSITORY = Path(__file__).parents[1] / "model_repo"
INPUTS = {
    "fraud": ("features", "FP32"),
    "tumor": ("features", "FP32"),
    "garment": ("pixels", "UINT8"),
}


def request_for(model: str, version: str = "", rows: int = 1) -> pb.ModelInferRequest:
    with np.load(REPOSITORY / model / "samples.npz", allow_pickle=False) as file:
        chosen = file["inputs"][:rows]
    name, datatype = INPUTS[model]
    message = pb.ModelInferRequest(model_name=model, model_version=version)
    message.inputs.add(name=name, datatype=datatype, shape=chosen.shape)
    message.raw_input_contents.append(chosen.tobytes())
    return message
