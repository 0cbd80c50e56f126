"""Asks gearshift with plain grpcio: python python_grpcio.py TARGET

TARGET is HOST:PORT of one server or of a proxy, or dns:///NAME:PORT for all addresses of a headless
Service. pip install grpcio grpcio-status "tritonclient[grpc]" (which brings the generated stubs)
"""

import json
import os
import sys

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

CONFIG = {
    # Each request goes to the next replica; without it all go to the first one that answers.
    "loadBalancingConfig": [{"round_robin": {}}],
    # A replica that says NOT_SERVING gets no requests.
    "healthCheckConfig": {"serviceName": ""},
    "methodConfig": [
        {
            "name": [{"service": "inference.GRPCInferenceService"}],
            # A replica that is not there yet is waited for, as long as the deadline allows.
            "waitForReady": True,
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.02s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                # What was refused for load comes back when the server says (it sends
                # grpc-retry-pushback-ms), not after this backoff.
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ],
    # When most requests fail, retries stop: they would only add to the load.
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
}
OPTIONS = [
    ("grpc.service_config", json.dumps(CONFIG)),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # How soon the name may be looked up again after a replica has gone; 30 s by default.
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
]


def request(service_class: str, budget_ms: float, floor: float) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="fraud")
    made.inputs.add(name="features", datatype="FP32", shape=[2, 30])
    made.raw_input_contents.append(np.zeros((2, 30), np.float32).tobytes())
    made.parameters["service_class"].string_param = service_class
    made.parameters["latency_budget_ms"].double_param = budget_ms
    made.parameters["min_accuracy"].double_param = floor
    return made


def retry_after(error: grpc.RpcError) -> float | None:
    """Seconds, where the server has said when to come back."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            return info.retry_delay.ToTimedelta().total_seconds()
    return None


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


def main(target: str) -> None:
    secure = credentials()
    with (
        grpc.insecure_channel(target, OPTIONS)
        if secure is None
        else grpc.secure_channel(target, secure, OPTIONS)
    ) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for asked in (("batch", 900, 0.0), ("batch", 900, 2.0), ("realtime", 0.001, 0.0)):
            try:
                # The budget is for one try at the server, the timeout for all of them: each try
                # tells the server what is left. (A "timeout" in the method config does not.)
                answer = stub.ModelInfer(request(*asked), timeout=2.0)
            except grpc.RpcError as error:
                code = error.code()
                if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    print(f"too busy; come back in {retry_after(error)} s")
                elif code is grpc.StatusCode.FAILED_PRECONDITION:
                    # Asking again helps nobody: the message names what would work.
                    print(f"not with this budget and floor: {error.details()}")
                else:
                    print(f"{code.name}: {error.details()}")
                continue
            scores = np.frombuffer(answer.raw_output_contents[0], np.float32)
            told = answer.parameters
            print(
                f"{scores} by {told['variant'].string_param}"
                f" (accuracy {told['accuracy'].double_param:.3f}, {told['reason'].string_param})"
            )


if __name__ == "__main__":
    main(sys.argv[1])
