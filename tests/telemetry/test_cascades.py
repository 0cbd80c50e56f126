"""Cascades on the metrics page: who answered in them, and what they promise."""

from __future__ import annotations

from dataclasses import replace

from builders import make_catalog, make_model
from gearshift.core.catalog import Cascade
from gearshift.ports import Answered, Served, Stage
from gearshift.telemetry import PrometheusTelemetry
from prometheus_judge import judged


def test_answers_are_counted_by_who_gave_them() -> None:
    cascade = Cascade(
        name="both", first="small", then="large", threshold=0.9, escalated=0.25, accuracy=0.94
    )
    catalog = make_catalog(replace(make_model("a"), cascades=(cascade,)))
    telemetry = PrometheusTelemetry(catalog)
    value = telemetry.registry.get_sample_value
    labels = {"model": "a", "cascade": "both"}
    for stage in Stage:
        assert value("gearshift_cascade_answers_total", {**labels, "stage": stage}) == 0
    served = [Served("default", False, 0.004, 0.001, 0.006)] * 3
    telemetry.answered(Answered("a", "small", 2, 0.94, 0.01, served, "both", Stage.FIRST))
    telemetry.answered(Answered("a", "large", 1, 0.94, 0.01, served[:1], "both", Stage.THEN))
    telemetry.answered(Answered("a", "small", 2, 0.80, 0.15, served[:2], "both", Stage.FALLBACK))
    counts = [
        value("gearshift_cascade_answers_total", {**labels, "stage": stage}) for stage in Stage
    ]
    assert counts == [3, 1, 2]
    # The requests themselves are those of the variant that answered.
    served_by = {"model": "a", "service_class": "default", "outcome": "served"}
    assert value("gearshift_requests_total", {**served_by, "variant": "small"}) == 5
    assert value("gearshift_cascade_accuracy", labels) == 0.94
    assert value("gearshift_cascade_expected_share", labels) == 0.25
    assert judged(telemetry.exposition()[0]) == (0, [])
