"""MLServer and KServe, each in a virtual environment of its own."""

from __future__ import annotations

import json
import os

from loadtests.peers.peer import HERE, Launch, Peer, Place, install
from loadtests.peers.processes import free_port

CORES = os.cpu_count() or 1


def prepare_mlserver(place: Place) -> None:
    install(place, "mlserver")
    for files in place.models.values():
        folder = place.folder / "mlserver-models" / files.model.name
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "name": files.model.name,
            "implementation": "mlserver_model.OnnxModel",
            "parameters": {"uri": str(files.artifact), "version": "1"},
        }
        (folder / "model-settings.json").write_text(json.dumps(settings))


def launch_mlserver(place: Place, port: int) -> Launch:
    folder = place.folder / "mlserver-models"
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "parallel_workers": CORES,
        "grpc_port": port,
        "http_port": free_port(),
        "metrics_port": free_port(),
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    command = (str(place.folder / "mlserver" / "bin" / "mlserver"), "start", str(folder))
    # Its workers are started by import, and must find the model's code.
    return Launch(command, {"PYTHONPATH": str(HERE)}, folder)


def launch_kserve(place: Place, port: int) -> Launch:
    script = str(HERE / "kserve_server.py")
    command = (str(place.python("kserve")), script, str(port), str(CORES), str(place.artifacts))
    # At its default level it writes a line for every call.
    return Launch(command, {"KSERVE_LOGLEVEL": "WARNING"}, processes=CORES)


MLSERVER = Peer("mlserver", f"MLServer 1.7.1, {CORES} workers", prepare_mlserver, launch_mlserver)
KSERVE = Peer(
    "kserve",
    f"KServe 0.21, {CORES} processes",
    lambda place: install(place, "kserve"),
    launch_kserve,
)
