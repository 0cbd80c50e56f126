"""Servers that do as they are told, and a model whose only variant is on them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from builders import make_model
from gearshift.executors.remote import RemoteExecutor
from remote_server import RemoteServer


@pytest.fixture
def servers():
    made = [RemoteServer(), RemoteServer()]
    yield made
    for server in made:
        server.stop()


@pytest.fixture
def executor(tmp_path):
    made = RemoteExecutor(tmp_path / "state")
    yield made
    made.close()


@pytest.fixture
def far(tmp_path):
    """A model whose only variant is on these servers."""

    def far(*servers: RemoteServer, more: str = "", most: int = 8):
        path = tmp_path / "m" / "large" / "remote.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"servers = {json.dumps([s.address for s in servers])}\n{more}")
        model = make_model()
        variant = replace(model.variants[0], executor="triton", artifact=str(path))
        return replace(model, variants=(variant,), max_batch_size=most), variant

    return far
