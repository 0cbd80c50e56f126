"""Settings of all tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

# How long an example takes is the machine's business: a busy one must not fail a test.
settings.register_profile("gearshift", deadline=None)
settings.load_profile("gearshift")


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Commands set the logs of the whole process up; the next test finds them as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    logging.getLogger("uvicorn.access").disabled = False
    logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)
    structlog.reset_defaults()
