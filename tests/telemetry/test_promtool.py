"""Prometheus' own judge of metric names, types and help texts accepts the main page."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gearshift.core.profile import LatencyPoint, Profile
from gearshift.core.residency import Place
from gearshift.errors import Outcome
from gearshift.ports import Answered, Ran, Settled
from gearshift.telemetry import Decided, Held, PrometheusTelemetry, ResidencyCollector
from prometheus_judge import judged


@pytest.fixture
def filled(
    telemetry: PrometheusTelemetry,
    served: Callable[..., Answered],
    ended: Callable[..., Settled],
    ran: Callable[..., Ran],
) -> PrometheusTelemetry:
    for outcome in Outcome:
        telemetry.settled(ended(outcome, slack=-1.0))
        telemetry.settled(ended(outcome, model="unknown", service_class="unknown"))
    telemetry.answered(served(late=True, slack=-1.0))
    telemetry.admitted("a", "slow")
    telemetry.ran(ran())
    telemetry.ran(ran(failed=True))
    return telemetry


def test_the_main_page_of_a_fresh_server(telemetry: PrometheusTelemetry) -> None:
    assert judged(telemetry.exposition()[0]) == (0, [])


def test_the_main_page_with_everything_in_it(filled: PrometheusTelemetry) -> None:
    held = Held({"cpu": 2.0**30}, {"cpu": 2.0**20}, [(Place("a", "large", "cpu"), True)])
    residency = ResidencyCollector(lambda: held)
    residency.decided(Decided.CHANGED, 0.1)
    filled.registry.register(residency)
    variants = filled.catalog.model("a").variants
    filled.profiled(Profile(v, "cpu", [LatencyPoint(1, 0.001, 0.002)], 8) for v in variants)
    page = filled.exposition()[0]
    assert b'gearshift_variant_latency_seconds{batch="1",model="a",quantile="0.99"' in page
    assert judged(page) == (0, [])


def test_tritons_page_is_refused_only_for_tritons_own_names(filled: PrometheusTelemetry) -> None:
    """The reason why it is a page of its own; when this fails, look whether it still holds."""
    _, complaints = judged(filled.triton_exposition()[0])
    assert all(complaint.startswith("nv_inference_") for complaint in complaints)
    assert any("abbreviated units" in complaint for complaint in complaints)
