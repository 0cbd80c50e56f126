"""Prometheus' own judge of metric names, types and help texts accepts the main page."""

from __future__ import annotations

from collections.abc import Callable

from gearshift.core.profile import LatencyPoint, Profile
from gearshift.errors import Outcome
from gearshift.ports import Ran, Settled
from gearshift.telemetry import PrometheusTelemetry
from prometheus_judge import judged


def fill(
    telemetry: PrometheusTelemetry, served: Callable[..., Settled], ran: Callable[..., Ran]
) -> None:
    for outcome in Outcome:
        telemetry.settled(served(outcome=outcome, slack=-1.0))
        telemetry.settled(served(outcome=outcome, model="unknown", service_class="unknown"))
    telemetry.admitted("a", "slow")
    telemetry.ran(ran())
    telemetry.ran(ran(failed=True))


def test_the_main_page_of_a_fresh_server(telemetry: PrometheusTelemetry) -> None:
    assert judged(telemetry.exposition()[0]) == (0, [])


def test_the_main_page_with_everything_in_it(
    telemetry: PrometheusTelemetry, served: Callable[..., Settled], ran: Callable[..., Ran]
) -> None:
    fill(telemetry, served, ran)
    variants = telemetry.catalog.model("a").variants
    telemetry.profiled(Profile(v, "cpu", [LatencyPoint(1, 0.001, 0.002)], 8) for v in variants)
    page = telemetry.exposition()[0]
    assert b'gearshift_variant_latency_seconds{batch="1",model="a",quantile="0.99"' in page
    assert judged(page) == (0, [])


def test_tritons_page_is_refused_only_for_tritons_own_names(
    telemetry: PrometheusTelemetry, served: Callable[..., Settled], ran: Callable[..., Ran]
) -> None:
    """The reason why it is a page of its own; when this fails, look whether it still holds."""
    fill(telemetry, served, ran)
    _, complaints = judged(telemetry.triton_exposition()[0])
    assert all(complaint.startswith("nv_inference_") for complaint in complaints)
    assert any("abbreviated units" in complaint for complaint in complaints)
