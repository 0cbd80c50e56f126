"""The worker process: the ordinary executors, driven through sockets.

Nothing that gearshift is made of beside the executors is loaded here, and the process knows
neither models nor requests: only which artifacts to hold, and to run one of them on what lies in
the shared memory.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from gearshift.core.catalog import Model, Signature, Variant
from gearshift.executors.isolated.messages import Message, packed, received
from gearshift.executors.isolated.segment import Segment
from gearshift.executors.memory import give_back, own_memory
from gearshift.executors.onnx import OnnxExecutor
from gearshift.executors.pytorch import TorchExecutor, installed
from gearshift.executors.thread import BEHIND, give_way, keep_to
from gearshift.ports import Executor

PR_SET_PDEATHSIG = 1
"""Linux, prctl(2)."""

LOOKED_EVERY = 1.0
"""Seconds between two looks at how much memory this process holds."""


class WorkerProcess:
    """What one worker process does. `end` ends it at once."""

    def __init__(self, runs: int, orders: int, inputs: int, outputs: int) -> None:
        """File descriptors: of its ends of the two pairs of sockets, of the two segments."""
        self._runs = socket.socket(fileno=runs)
        self._orders = socket.socket(fileno=orders)
        self._inputs = Segment(inputs)
        self._outputs = Segment(outputs)
        self._loaded: dict[int, tuple[Model, Variant]] = {}
        self._said: list[dict[str, str]] = []
        self._looked_at = 0.0
        self._memory = 0
        structlog.configure(processors=[self._keep])
        first = received(self._orders)
        if first["dies_with"] and sys.platform == "linux":
            # The closed sockets say it as well, but not to native code that never comes back.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != first["dies_with"]:
                os._exit(1)
        # Before anything begins threads of its own.
        keep_to(first["home"])
        self._threads = first["threads"]
        self._onnx = OnnxExecutor(
            first["providers"],
            first["run_bytes"],
            threads=self._threads,
            engines=Path(first["engines"]) if first["engines"] else None,
        )
        self._executors: dict[str, Executor] = {}
        identity = self._onnx.identity
        if installed():
            identity += f" {TorchExecutor(threads=self._threads).identity}"
        self._answer(first, {"devices": self._onnx.devices, "identity": identity})

    def serve(self) -> None:
        """Until the server closes the sockets, or ends."""
        threading.Thread(target=self._obey, name="orders", daemon=True).start()
        with suppress(OSError):
            while True:
                asked = received(self._runs)
                self._runs.sendall(packed(self._run(asked)))

    # --- runs: on the main thread ---------------------------------------------------------

    def _run(self, asked: Message) -> dict[str, Any]:
        told: dict[str, Any] = {}
        try:
            model, variant = self._loaded[asked["handle"]]
            inputs = self._inputs.read(asked["inputs"])
            executor = self._executors[variant.executor]
            told["outputs"] = self._outputs.write(executor.run_here(model, variant, inputs))
        except Exception as error:  # noqa: BLE001 - whatever broke, the server must hear of it
            told["error"] = _told(error)
        now = time.monotonic()
        if now - self._looked_at >= LOOKED_EVERY:
            self._looked_at, self._memory = now, own_memory()
        told["memory"] = self._memory
        return told

    # --- orders: on a thread --------------------------------------------------------------

    def _obey(self) -> None:
        try:
            while True:
                order = received(self._orders)
                try:
                    self._answer(order, self._carry_out(order))
                except Exception as error:  # noqa: BLE001 - as above
                    self._answer(order, {"error": _told(error)})
        except OSError:
            # Nobody is left to run for, and no need to wait for what the main thread is at.
            os._exit(0)

    def _carry_out(self, order: Message) -> dict[str, Any]:
        handle = order["handle"]
        if order["do"] == "load":
            if not self._executors:
                self._take(order["device"])
            model, variant = _stand_in(order)
            self._executors[variant.executor].load(model, variant)
            give_back()
            self._loaded[handle] = (model, variant)
            placed = self._executors[variant.executor].placed(model, variant)
            return {"memory": own_memory(), "placed": [asdict(each) for each in placed]}
        loaded = self._loaded.pop(handle, None)
        if loaded is not None:
            self._executors[loaded[1].executor].unload(*loaded)
            give_back()
        return {}

    def _take(self, device: str) -> None:
        """This process runs on that device from now on, and on no other."""
        self._onnx.only(device)
        self._executors["onnx"] = self._onnx
        if installed():
            self._executors["torch"] = TorchExecutor(device, threads=self._threads)

    def _answer(self, order: Message, told: Message) -> None:
        said, self._said = self._said, []
        self._orders.sendall(packed({"order": order["order"], **told, "said": said}))

    def _keep(
        self, logger: object, level: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """The server has the logs: what is said here goes there with the next answer."""
        self._said.append({"level": level, **{name: str(value) for name, value in event.items()}})
        raise structlog.DropEvent


def _stand_in(order: Message) -> tuple[Model, Variant]:
    """As much of a model and its variant as the executor looks at."""
    variant = Variant(**order["variant"])
    model = Model(
        name=order["model"],
        metric="",
        max_batch_size=order["max_batch_size"],
        signature=Signature((), ()),
        classes={},
        default_class="",
        variants=(variant,),
        # What is loaded anew lies beside what it replaces, until that is unloaded.
        generation=order["handle"],
    )
    return model, variant


def _told(error: Exception) -> str:
    """ValueError has a sentence for people; of others the kind says most."""
    if isinstance(error, ValueError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def serve(runs: int, orders: int, inputs: int, outputs: int) -> None:
    """The whole life of a worker process."""
    # Whoever ends a whole group of processes says it to each; here only the server's word counts.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()
    # Before any thread is made: all of them give way to the server's event loop.
    give_way(BEHIND, os.getppid())
    WorkerProcess(runs, orders, inputs, outputs).serve()
    os._exit(0)
