"""Servers elsewhere: a gearshift or a real Triton in processes of their own, on a port that each
keeps, with a model `sums` that takes x FP32 [n, 3] and gives each row's sum, as long as told."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
from loadtests.peers.peer import ROOT, Launch, Place
from loadtests.peers.processes import Tree, free_port
from loadtests.peers.triton import TRITON, site_packages
from loadtests.reliability import sums_model
from loadtests.remote.pace import Pace
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

MODEL = "sums"
READY_WITHIN = 240.0
SLOTS = 4
"""Runs that it does at a time."""

GIVING_WAY = ("nice", "-n", "10")
"""It stands for a machine of its own: while it starts, which takes all cores for half a second, it
must not take them from the server in front."""

CHANNEL = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 20),
)

TOML = """\
metric = "average_precision"
max_batch_size = 8
default_class = "any"

[classes.any]

[[variants]]
name = "slow"
version = 1
executor = "onnx"
accuracy = 0.95
"""

CONFIG = f"""\
name: "{MODEL}"
backend: "python"
max_batch_size: 8
input [ {{ name: "x" data_type: TYPE_FP32 dims: [ 3 ] }} ]
output [ {{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }} ]
instance_group [ {{ kind: KIND_CPU count: {SLOTS} }} ]
dynamic_batching {{ }}
"""

TRITON_MODEL = """\
import sys
import time
from pathlib import Path

sys.path[:0] = [{site!r}, {root!r}]

import numpy as np
import triton_python_backend_utils as pb_utils
from loadtests.remote.pace import Paced


class TritonPythonModel:
    def initialize(self, args):
        self.paced = Paced(Path({pace!r}))

    def execute(self, requests):
        answers = []
        time.sleep(self.paced.next())
        for each in requests:
            rows = pb_utils.get_input_tensor_by_name(each, "x").as_numpy()
            total = rows.sum(axis=1, keepdims=True, dtype=np.float32)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", total)]))
        return answers
"""


def message(value: float = 1.0) -> pb.ModelInferRequest:
    """One row of three times `value`."""
    request = pb.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    request.raw_input_contents.append(np.full((1, 3), value, np.float32).tobytes())
    return request


class Far:
    """One such server. It has not been started yet."""

    def __init__(self, folder: Path, pace: Pace, launch: Callable[[Path, int], Launch]) -> None:
        """`launch` says how, by its folder and its port."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.pace(pace)
        self._launch = launch(folder, self.port)
        self._tree: Tree | None = None

    def pace(self, pace: Pace) -> None:
        pace.write(self.folder / "pace.json")

    def start(self) -> float:
        """The moment at which it is ready, by time.monotonic()."""
        command = (*GIVING_WAY, *self._launch.command)
        self._tree = Tree(command, self.folder / "log", self._launch.environment)
        return self.ready()

    def ready(self) -> float:
        """The same, of one that was started: it has answered a request of ours."""
        end = time.monotonic() + READY_WITHIN
        with grpc.insecure_channel(self.address, CHANNEL) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while time.monotonic() < end:
                with suppress(grpc.RpcError):
                    stub.ModelInfer(message(), timeout=1.0)
                    return time.monotonic()
                time.sleep(0.01)
        raise RuntimeError(f"it is not ready after {READY_WITHIN:g} s: see {self.folder / 'log'}")

    def answers(self) -> bool:
        """Whether it does now."""
        with grpc.insecure_channel(self.address, CHANNEL) as channel, suppress(grpc.RpcError):
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            stub.ModelInfer(message(), timeout=1.0)
            return True
        return False

    def _signal(self, number: signal.Signals) -> None:
        # Not what it has started: locks that Triton shares with those break otherwise.
        assert self._tree is not None
        with suppress(ProcessLookupError):
            os.kill(self._tree.pid, number)

    def kill(self) -> None:
        assert self._tree is not None
        self._tree.kill()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        if self._tree is not None:
            self._tree.kill()


def gearshift(folder: Path, port: int) -> Launch:
    sums_model.write(folder / "repository", MODEL, slow=1)
    (folder / "repository" / MODEL / "model.toml").write_text(TOML)
    paths = os.pathsep.join((str(ROOT / "service"), str(ROOT)))
    return Launch(
        (
            *(sys.executable, "-m", "loadtests.remote.far_server", str(folder / "pace.json")),
            *("--repository", str(folder / "repository"), "--state-dir", str(folder / "state")),
            *("--grpc-port", str(port)),
        ),
        {"PYTHONPATH": paths, "GEARSHIFT_FEEDBACK": "false"},
    )


def triton(folder: Path, port: int) -> Launch:
    """loadtests.peers.peer.Absent where it cannot be installed."""
    place = Place(ROOT / "build" / "peers", {})
    TRITON.prepare(place)
    model = folder / "repository" / MODEL
    (model / "1").mkdir(parents=True, exist_ok=True)
    (model / "config.pbtxt").write_text(CONFIG)
    site, pace = str(site_packages(place)), str(folder / "pace.json")
    (model / "1" / "model.py").write_text(TRITON_MODEL.format(site=site, root=str(ROOT), pace=pace))
    there = TRITON.launch(place, port)
    command = tuple(
        f"--model-repository={folder / 'repository'}" if "--model-repository=" in part else part
        for part in there.command
    )
    return Launch((*command, "--model-control-mode=explicit", "--load-model=*"), there.environment)


KINDS: Mapping[str, Callable[[Path, int], Launch]] = {"gearshift": gearshift, "triton": triton}
