"""How long steps take, on the page."""

from __future__ import annotations

from dataclasses import replace

from builders import make_catalog, make_model
from gearshift.telemetry import PrometheusTelemetry
from written import Written

NAME = "gearshift_prepare_duration_seconds"
WITH_STEPS = replace(make_model("a"), before=(Written(),))
PLAIN = make_model("b")


def count(telemetry: PrometheusTelemetry, model: str) -> float | None:
    return telemetry.registry.get_sample_value(f"{NAME}_count", {"model": model})


def test_models_with_steps_have_a_series_from_the_start():
    telemetry = PrometheusTelemetry(make_catalog(WITH_STEPS, PLAIN))
    assert count(telemetry, "a") == 0.0
    assert count(telemetry, "b") is None
    telemetry.prepared("a", 0.004)
    telemetry.prepared("a", 0.006)
    telemetry.prepared("unknown", 1.0)
    assert count(telemetry, "a") == 2.0
    read = telemetry.registry.get_sample_value
    assert read(f"{NAME}_sum", {"model": "a"}) == 0.01
    assert read(f"{NAME}_bucket", {"model": "a", "le": "0.005"}) == 1.0


def test_it_follows_the_models_that_are_served():
    telemetry = PrometheusTelemetry(make_catalog(PLAIN))
    telemetry.follow(make_catalog(WITH_STEPS, PLAIN))
    telemetry.prepared("a", 0.004)
    telemetry.follow(make_catalog(PLAIN))
    assert count(telemetry, "a") == 1.0
    telemetry.forget(WITH_STEPS)
    assert count(telemetry, "a") is None
