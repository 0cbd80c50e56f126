"""The client where nothing of the server is installed, against a server that is no gearshift."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from remote_server import RemoteServer

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from importlib.abc import MetaPathFinder


class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(name)
        return None


sys.meta_path.insert(0, Missing())

import numpy as np
from gearshift.client import Client

with Client({address!r}) as client:
    answer = client.infer("m", {{"x": np.array([[1, 2, 3]], np.float32)}}, budget=10.0)
    print(answer["y"].tolist(), answer.variant)
"""


def name_of(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9_.-]", requirement)[0].lower().replace("_", "-")


@pytest.fixture
def server():
    made = RemoteServer()
    yield made
    made.stop()


def test_it_needs_what_the_extra_names_and_nothing_of_the_server(server):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {name_of(each) for each in project["dependencies"]}
    needed = {name_of(each) for each in project["optional-dependencies"]["client"]}
    # What tritonclient[grpc] brings along.
    kept = needed | {"grpcio", "numpy", "protobuf"}
    assert {"onnxruntime", "uvloop", "prometheus-client"} <= asked - kept
    missing = [
        package
        for package, distributions in packages_distributions().items()
        if {name_of(each) for each in distributions} & (asked - kept)
    ]
    assert {"onnxruntime", "uvloop", "prometheus_client", "hpack"} <= set(missing)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(missing=missing, address=server.address)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PYTHONPATH": str(ROOT / "service"), "PATH": ""},
    )
    assert done.stdout == "[[6.0]] None\n", done.stderr
