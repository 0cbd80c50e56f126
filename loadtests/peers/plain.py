"""gearshift itself, and the plain Python servers: both run in this Python environment."""

from __future__ import annotations

import os
import shutil
import sys
from functools import partial

from loadtests.peers.peer import HERE, ROOT, Launch, Peer, Place

CORES = os.cpu_count() or 1

MODEL_TOML = """\
metric = "accuracy"
max_batch_size = {batch}
default_class = "default"

# No budget of its own: the caller's deadline says how long a request may take.
[classes.default]

[[variants]]
name = "fp32"
version = 1
executor = "onnx"
accuracy = 1.0
"""


def write_repository(place: Place) -> None:
    """One variant for each model, as the other servers have it; no profile of another day."""
    shutil.rmtree(place.folder / "state", ignore_errors=True)
    for files in place.models.values():
        folder = place.folder / "repository" / files.model.name
        artifact = folder / "fp32" / "model.onnx"
        artifact.parent.mkdir(parents=True, exist_ok=True)
        (folder / "model.toml").write_text(MODEL_TOML.format(batch=files.model.max_batch))
        artifact.unlink(missing_ok=True)
        os.link(files.artifact, artifact)


def gearshift(place: Place, port: int) -> Launch:
    return Launch(
        (
            *(sys.executable, "-m", "gearshift", "serve"),
            *("--grpc-port", str(port), "--http-port", "0", "--log-level", "warning"),
            *("--repository", str(place.folder / "repository")),
            *("--state-dir", str(place.folder / "state")),
        ),
        {"PYTHONPATH": str(ROOT / "service")},
    )


def plain(style: str, place: Place, port: int) -> Launch:
    script = str(HERE / "plain_server.py")
    command = (sys.executable, script, style, str(port), str(CORES), str(place.artifacts))
    return Launch(command, processes=CORES)


def nothing(place: Place) -> None:
    """The models' files are all that a plain server needs."""


GEARSHIFT = Peer("gearshift", "gearshift", write_repository, gearshift)
PLAIN_SYNC = Peer(
    "plain-sync", f"plain gRPC, synchronous, {CORES} processes", nothing, partial(plain, "sync")
)
PLAIN_ASYNCIO = Peer(
    "plain-asyncio",
    f"plain gRPC, asyncio + uvloop, {CORES} processes",
    nothing,
    partial(plain, "asyncio"),
)
