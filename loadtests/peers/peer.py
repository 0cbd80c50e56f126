"""What the benchmarks know of a server: how it is made ready, started and found to be up."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from loadtests.peers.models import MODELS, Files, make
from loadtests.peers.processes import Tree, free_port
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
START_WITHIN = 240.0
PATIENCE = 10.0


class Absent(Exception):
    """This server cannot take part, and why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything that is made or installed lies: `build/peers`."""

    folder: Path
    models: Mapping[str, Files]

    @classmethod
    def at(cls, folder: Path) -> Place:
        return cls(folder, {model.name: make(model, folder / "models") for model in MODELS})

    @property
    def artifacts(self) -> Path:
        return self.folder / "models"

    def python(self, name: str) -> Path:
        return self.folder / name / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Launch:
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    processes: int = 1
    """How many of them share the port."""


@dataclass(frozen=True, slots=True)
class Peer:
    """`prepare` installs and writes what `launch` needs; `launch` says how to start on a port."""

    name: str
    title: str
    prepare: Callable[[Place], None]
    launch: Callable[[Place, int], Launch]
    files: Callable[[Place], Mapping[str, Files]] = lambda place: place.models


@dataclass(frozen=True, slots=True)
class Running:
    peer: Peer
    tree: Tree
    port: int


def start(peer: Peer, place: Place) -> Running:
    """Up, and every model has answered a stock client rightly; Absent if it does not come to it."""
    port = free_port()
    launch = peer.launch(place, port)
    log = place.folder / "logs" / f"{peer.name}.log"
    tree = Tree(launch.command, log, launch.environment, launch.folder)
    try:
        wait_until_right(tree, peer.files(place), port, launch.processes)
    except BaseException:
        tree.kill()
        raise
    return Running(peer, tree, port)


def wait_until_right(tree: Tree, models: Mapping[str, Files], port: int, processes: int) -> None:
    end = time.monotonic() + START_WITHIN
    # A process that comes later would get none of the connections that are open by then.
    while tree.listening(port) < processes:
        if not tree.alive:
            raise Absent(f"it ended at its start (see {tree.log.name})")
        if time.monotonic() > end:
            raise Absent(f"only {tree.listening(port)} of {processes} processes came up")
        time.sleep(0.1)
    for files in models.values():
        while (problem := asked(port, files)) is not None:
            if not tree.alive:
                raise Absent(f"it ended at its start (see {tree.log.name})")
            if time.monotonic() > end:
                raise Absent(f"not ready: {problem}")
            time.sleep(0.2)


def still_right(running: Running, place: Place) -> bool:
    """Whether a server that gave no answer to many would give one to a patient caller."""
    end = time.monotonic() + PATIENCE
    models = running.peer.files(place).values()
    while problems := [problem for files in models if (problem := asked(running.port, files))]:
        if time.monotonic() > end:
            print(f"{running.peer.title}: {problems}", flush=True)
            return False
        time.sleep(0.5)
    return True


def asked(port: int, files: Files) -> str | None:
    """By a stock client: None if the answer is right, the status if there is none."""
    message = pb.ModelInferRequest.FromString(files.request.read_bytes())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
                message, timeout=PATIENCE, wait_for_ready=True
            )
        except grpc.RpcError as error:
            return str(error.code().name)
    check(answer, files)
    return None


def check(answer: pb.ModelInferResponse, files: Files) -> None:
    """Raw or typed, the values must be those of ONNX Runtime here."""
    if answer.raw_output_contents:
        values = np.frombuffer(answer.raw_output_contents[0], np.float32)
    else:
        values = np.array(answer.outputs[0].contents.fp32_contents, np.float32)
    right = (np.fromfile(path, np.float32) for path in files.right)
    if not any(
        values.shape == expected.shape and np.allclose(values, expected, 1e-3, 1e-4)
        for expected in right
    ):
        raise Absent(f"{files.model.name}: its answer is wrong")


def install(place: Place, name: str) -> None:
    """The virtual environment `name`, with the versions pinned in requirements/NAME.txt.

    Without dependencies: the file lists all that is needed, and what a resolver would add
    (CUDA, torch) is what must stay out.
    """
    folder, pinned = place.folder / name, HERE / "requirements" / f"{name}.txt"
    done = folder / ".installed"
    if done.exists() and done.read_text() == pinned.read_text():
        return
    log = place.folder / "logs" / f"{name}-install.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    pip = (str(place.python(name)), "-m", "pip", "install", "--disable-pip-version-check")
    with log.open("wb") as out:
        for command in (
            (sys.executable, "-m", "venv", "--clear", str(folder)),
            (*pip, "--no-deps", "-r", str(pinned)),
        ):
            result = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False)
            if result.returncode != 0:
                raise Absent(f"its pinned versions could not be installed (see {log.name})")
    done.write_text(pinned.read_text())
