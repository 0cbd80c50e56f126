"""One server on the shipped models for the whole session."""

from __future__ import annotations

from pathlib import Path

import pytest
import tritonclient.grpc as triton

from measured import measured
from processes_bench import served_by_processes
from serving import ROOT, start, stop


@pytest.fixture(scope="session")
def state_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="session")
def server(tmp_path_factory, state_dir):
    with measured(tmp_path_factory, state_dir):
        running = start("--repository", str(ROOT / "model_repo"), "--state-dir", str(state_dir))
    yield running
    assert stop(running) == 0


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(server.grpc) as made:
        yield made


@pytest.fixture
def options(tmp_path: Path) -> tuple[str, ...]:
    """Of a server with one small model, and nothing that others know."""
    return served_by_processes(tmp_path)
