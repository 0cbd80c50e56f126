"""Real servers that are stopped, killed and frozen: `make test-life-cycle`. They are too slow for
`make test`, which holds the parts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from loadtests.reliability import sums_model

from serving import Server, start

VARIABLE = "GEARSHIFT_TEST_LIFE_CYCLE"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason=f"slow: make test-life-cycle sets {VARIABLE}")
    for item in items:
        if Path(__file__).parent in item.path.parents and not os.environ.get(VARIABLE):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """A repository, and a state dir in which each kind of server measures its variants once."""
    found: Path = tmp_path_factory.mktemp("life-cycle")
    sums_model.write(found / "repository")
    return found


@pytest.fixture
def begin(place: Path) -> Iterator:
    """Starts servers, and leaves none behind."""
    begun: list[Server] = []

    def made(*options: str) -> Server:
        begun.append(
            start(
                *("--repository", str(place / "repository"), "--state-dir", str(place / "state")),
                *("--workers", "2", *options),
            )
        )
        return begun[-1]

    yield made
    for server in begun:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        server.process.stdout.close()
