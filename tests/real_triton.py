"""A real Triton for tests: `make test-triton`. It is a download of 300 MB, so that `make test` does
without."""

from __future__ import annotations

import os

import pytest

from conformance import servers
from serving import ROOT

VARIABLE = "GEARSHIFT_TEST_TRITON"

marked = pytest.mark.skipif(
    not os.environ.get(VARIABLE), reason=f"a large download: make test-triton sets {VARIABLE}"
)


def served():
    """The address of one with the models of the conformance suite, until the context is left."""
    return servers.triton(ROOT / "build" / "peers")
