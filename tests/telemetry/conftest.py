"""A telemetry over two small models, and events with everything filled in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from builders import make_catalog, make_model
from gearshift.core.catalog import ServiceClass
from gearshift.errors import Outcome
from gearshift.ports import Answered, Ran, Served, Settled
from gearshift.telemetry import PrometheusTelemetry

NOW = 1_700_000_000.25


@pytest.fixture
def telemetry() -> PrometheusTelemetry:
    """Models `a` (large 0.95 as version 1, small 0.8 as 2; classes fast, slow) and `b`."""
    classes = (ServiceClass("fast"), ServiceClass("slow"))
    catalog = make_catalog(make_model("a", classes=classes), make_model("b"))
    return PrometheusTelemetry(catalog, wall_clock=lambda: NOW)


@pytest.fixture
def value(telemetry: PrometheusTelemetry) -> Callable[..., float | None]:
    """The value of one sample on the main page, by its name and labels."""

    def read(name: str, **labels: str) -> float | None:
        return telemetry.registry.get_sample_value(name, labels)

    return read


@pytest.fixture
def triton(telemetry: PrometheusTelemetry) -> Callable[..., float | None]:
    """The value of one `nv_inference_...` sample."""

    def read(name: str, **labels: str) -> float | None:
        return telemetry.triton_registry.get_sample_value(f"nv_inference_{name}", labels)

    return read


@pytest.fixture
def served() -> Callable[..., Answered]:
    """A request of `a` that `small` answered in 4 ms, with 6 ms to spare."""

    def make(**changes: Any) -> Answered:
        request: dict[str, Any] = {
            "service_class": "fast",
            "late": False,
            "duration": 0.004,
            "queue": 0.001,
            "slack": 0.006,
        }
        return Answered("a", "small", 2, 0.8, 0.15, [Served(**(request | changes))])

    return make


@pytest.fixture
def ended() -> Callable[..., Settled]:
    """A request of `a` that nobody answered."""

    def make(outcome: Outcome, **changes: Any) -> Settled:
        event: dict[str, Any] = {
            "model": "a",
            "service_class": "fast",
            "variant": "",
            "version": 0,
            "outcome": outcome,
            "status": "INTERNAL",
            "duration": 0.02,
        }
        return Settled(**(event | changes))

    return make


@pytest.fixture
def ran() -> Callable[..., Ran]:
    """A batch of two requests with three rows that `small` ran in 3 ms."""

    def make(**changes: Any) -> Ran:
        event: dict[str, Any] = {
            "model": "a",
            "variant": "small",
            "version": 2,
            "worker": 1,
            "device": "cpu",
            "requests": 2,
            "rows": 3,
            "queue": 0.010,
            "input": 0.001,
            "compute": 0.003,
            "output": 0.0005,
        }
        return Ran(**(event | changes))

    return make
