"""What benches of faults share."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import pytest


@pytest.fixture(scope="module")
def no_tracebacks() -> Iterator[None]:
    """Thousands of them would take longer than all the rest."""
    with patch("gearshift.engine.batch.log"), patch("gearshift.engine.running.log"):
        yield
