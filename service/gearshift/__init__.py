"""gearshift serves each request from the most accurate model variant its latency budget allows."""

import os

__version__ = "0.1.0"

# Since 1.29, ONNX Runtime's own builds for Linux send what they run to their maker: names of model
# files, hashes of graphs. What a server answers is nobody else's business unless its owner says so.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
