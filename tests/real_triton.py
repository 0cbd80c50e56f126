"""A real Triton for tests: `make test-triton`. It is a download of 300 MB, so that `make test` does
without."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from conformance import servers
from serving import ROOT

VARIABLE = "GEARSHIFT_TEST_TRITON"

marked = pytest.mark.skipif(
    not os.environ.get(VARIABLE), reason=f"a large download: make test-triton sets {VARIABLE}"
)


@contextmanager
def served() -> Iterator[str]:
    """Where one with the models of the conformance suite speaks gRPC, until the context is left."""
    with servers.triton(ROOT / "build" / "peers") as at:
        yield at.grpc
