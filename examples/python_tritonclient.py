"""Asks gearshift with NVIDIA's client: python python_tritonclient.py HOST:PORT

pip install "tritonclient[grpc]"
"""

import json
import os
import sys

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

# Given as channel_args these replace keepalive_options, so that both stand here.
OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Notices a server whose machine is gone, also while nothing is asked.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    (
        "grpc.service_config",
        json.dumps(
            {
                "loadBalancingConfig": [{"round_robin": {}}],
                "methodConfig": [
                    {
                        "name": [{"service": "inference.GRPCInferenceService"}],
                        "retryPolicy": {
                            "maxAttempts": 3,
                            "initialBackoff": "0.02s",
                            "maxBackoff": "0.5s",
                            "backoffMultiplier": 2,
                            "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
                        },
                    }
                ],
            }
        ),
    ),
]


def credentials() -> grpc.ChannelCredentials | None:
    """TLS where GEARSHIFT_TLS_CA names the file of its authority, and the token in GEARSHIFT_TOKEN
    with each call, which gRPC sends over TLS only."""
    authority = os.environ.get("GEARSHIFT_TLS_CA")
    if not authority:
        return None
    with open(authority, "rb") as file:
        secure = grpc.ssl_channel_credentials(file.read())
    token = os.environ.get("GEARSHIFT_TOKEN")
    if not token:
        return secure
    return grpc.composite_channel_credentials(secure, grpc.access_token_call_credentials(token))


def main(address: str) -> None:
    secure = credentials()
    with triton.InferenceServerClient(address, creds=secure, channel_args=OPTIONS) as client:
        payments = triton.InferInput("features", [2, 30], "FP32")
        payments.set_data_from_numpy(np.zeros((2, 30), np.float32))
        for floor in (0.0, 2.0):
            try:
                answer = client.infer(
                    "fraud",
                    [payments],
                    parameters={"service_class": "batch", "min_accuracy": floor},
                    client_timeout=0.9,  # the budget, for all tries together
                )
            except InferenceServerException as error:
                print(error.status(), error.message())
                continue
            told = answer.get_response().parameters
            print(
                f"{answer.as_numpy('probability').ravel()} by {told['variant'].string_param}"
                f" (accuracy {told['accuracy'].double_param:.3f}, {told['reason'].string_param})"
            )


if __name__ == "__main__":
    main(sys.argv[1])
