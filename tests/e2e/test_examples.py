"""The examples for callers, as they stand, against a real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from serving import ROOT
from tools import BUILD, tool

EXAMPLES = ROOT / "examples"
ANSWERED = re.compile(r"^\[?[\d.e+-]+( [\d.e+-]+\])? by \w[\w-]* \(accuracy 0\.\d{3}, \w+\)$", re.M)


def told(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def test_tritonclient(server):
    said = told(sys.executable, str(EXAMPLES / "python_tritonclient.py"), server.grpc)
    assert ANSWERED.search(said), said
    assert "StatusCode.FAILED_PRECONDITION no variant of model 'fraud' reaches the floor" in said


@pytest.mark.parametrize("scheme", ["", "dns:///"])
def test_grpcio(server, scheme):
    said = told(sys.executable, str(EXAMPLES / "python_grpcio.py"), scheme + server.grpc)
    answered, no_floor, no_time = said.splitlines()
    assert ANSWERED.match(answered), said
    assert no_floor.startswith("not with this budget and floor: no variant of model 'fraud'")
    assert no_time.startswith("not with this budget and floor: ")
    assert no_time != no_floor


def test_grpcurl(server):
    said = told("sh", str(EXAMPLES / "grpcurl.sh"), server.grpc, GRPCURL=tool("grpcurl"))
    services, _, rest = said.partition("{")
    assert "inference.GRPCInferenceService" in services.split()
    answers = json.loads("[{" + rest.strip().replace("\n}\n{", "\n},\n{") + "]")
    health, metadata, inferred, explained = answers
    assert health == {"status": "SERVING"}
    assert metadata["inputs"][0]["name"] == "features"
    assert inferred["parameters"]["service_class"] == {"string_param": "batch"}
    assert len(inferred["raw_output_contents"]) == 1
    assert explained["candidates"]


def test_node(server):
    modules = BUILD / "node" / "node_modules"
    said = told(
        tool("node"), str(EXAMPLES / "node" / "infer.js"), server.grpc, NODE_PATH=str(modules)
    )
    answered, refused = said.splitlines()
    assert ANSWERED.match(answered), said
    assert refused.startswith("FAILED_PRECONDITION: no variant of model 'fraud' reaches the floor")
