"""Each event becomes exactly the numbers that it should."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from builders import make_catalog, make_model
from gearshift import __version__
from gearshift.core.profile import LatencyPoint, Profile
from gearshift.errors import Outcome
from gearshift.ports import Answered, Ran, Served, Settled, Telemetry
from gearshift.telemetry import PrometheusTelemetry

Read = Callable[..., float | None]
MakeSettled = Callable[..., Settled]
MakeAnswered = Callable[..., Answered]
MakeRan = Callable[..., Ran]
FAST = {"model": "a", "service_class": "fast"}
SMALL = {"model": "a", "variant": "small"}
V2 = {"model": "a", "version": "2"}


def test_it_is_what_the_engine_expects(telemetry: PrometheusTelemetry) -> None:
    port: Telemetry = telemetry
    assert port.statistics("a", 1).executions == 0


def test_an_answer(telemetry: PrometheusTelemetry, value: Read, served: MakeAnswered) -> None:
    telemetry.answered(served())
    assert value("gearshift_requests_total", **SMALL, service_class="fast", outcome="served") == 1
    assert value("gearshift_request_duration_seconds_count", **FAST) == 1
    assert value("gearshift_request_duration_seconds_sum", **FAST) == pytest.approx(0.004)
    assert value("gearshift_request_duration_seconds_bucket", **FAST, le="0.0025") == 0
    assert value("gearshift_request_duration_seconds_bucket", **FAST, le="0.005") == 1
    assert value("gearshift_queue_duration_seconds_sum", **FAST) == pytest.approx(0.001)
    assert value("gearshift_slack_seconds_bucket", **FAST, le="0.005") == 0
    assert value("gearshift_slack_seconds_bucket", **FAST, le="0.01") == 1
    assert value("gearshift_served_accuracy_sum", **FAST) == pytest.approx(0.8)
    assert value("gearshift_served_accuracy_count", **FAST) == 1
    assert value("gearshift_accuracy_deficit_sum", **FAST) == pytest.approx(0.15)


def test_a_late_answer_counts_its_accuracy_and_its_negative_slack(
    telemetry: PrometheusTelemetry, value: Read, served: MakeAnswered
) -> None:
    telemetry.answered(served(late=True, slack=-0.02))
    assert value("gearshift_requests_total", **SMALL, service_class="fast", outcome="late") == 1
    assert value("gearshift_served_accuracy_sum", **FAST) == pytest.approx(0.8)
    assert value("gearshift_slack_seconds_bucket", **FAST, le="-0.025") == 0
    assert value("gearshift_slack_seconds_bucket", **FAST, le="-0.01") == 1
    assert value("gearshift_slack_seconds_count", **FAST) == 1
    assert value("gearshift_slack_seconds_sum", **FAST) is None


def test_the_requests_of_one_batch_are_counted_each_in_its_class(
    telemetry: PrometheusTelemetry, value: Read, triton: Read
) -> None:
    """As if each had been told alone, whatever they have in common."""
    requests = [
        Served("fast", late=False, duration=0.004, queue=0.001, slack=0.006),
        Served("slow", late=False, duration=0.3, queue=0.2, slack=math.inf),
        Served("fast", late=True, duration=0.02, queue=0.0, slack=-0.01),
    ]
    telemetry.answered(Answered("a", "small", 2, 0.8, 0.15, requests))
    answered = {"model": "a", "variant": "small"}
    for name, outcome, expected in (
        ("fast", "served", 1),
        ("fast", "late", 1),
        ("slow", "served", 1),
        ("slow", "late", 0),
    ):
        labels = {**answered, "service_class": name, "outcome": outcome}
        assert value("gearshift_requests_total", **labels) == expected
    slow = {"model": "a", "service_class": "slow"}
    assert value("gearshift_request_duration_seconds_sum", **FAST) == pytest.approx(0.024)
    assert value("gearshift_request_duration_seconds_bucket", **FAST, le="0.005") == 1
    assert value("gearshift_request_duration_seconds_count", **slow) == 1
    assert value("gearshift_queue_duration_seconds_bucket", **FAST, le="0.0005") == 1
    assert value("gearshift_slack_seconds_count", **FAST) == 2
    assert value("gearshift_slack_seconds_count", **slow) == 0
    assert value("gearshift_served_accuracy_sum", **FAST) == pytest.approx(1.6)
    assert value("gearshift_accuracy_deficit_sum", **slow) == pytest.approx(0.15)
    assert triton("request_success", **V2) == 3
    assert triton("request_duration_histogram_us_bucket", **V2, le="5000.0") == 1
    assert triton("request_duration_histogram_us_sum", **V2) == pytest.approx(324_000)
    assert triton("queue_duration_histogram_us_count", **V2) == 3


def test_a_late_request_without_an_answer_has_no_accuracy(
    telemetry: PrometheusTelemetry, value: Read, ended: MakeSettled
) -> None:
    telemetry.settled(ended(Outcome.LATE, variant="small", version=2))
    assert value("gearshift_requests_total", **SMALL, service_class="fast", outcome="late") == 1
    assert value("gearshift_served_accuracy_count", **FAST) == 0


@pytest.mark.parametrize("outcome", [Outcome.SHED, Outcome.INFEASIBLE, Outcome.INVALID])
def test_what_is_refused_at_the_door_is_in_no_duration(
    telemetry: PrometheusTelemetry, value: Read, ended: MakeSettled, outcome: Outcome
) -> None:
    telemetry.settled(ended(outcome))
    count = value("gearshift_requests_total", **FAST, variant="", outcome=str(outcome))
    assert count == 1
    assert value("gearshift_request_duration_seconds_count", **FAST) == 0


def test_an_expired_request_did_nothing_but_wait(
    telemetry: PrometheusTelemetry, value: Read, ended: MakeSettled
) -> None:
    telemetry.settled(ended(Outcome.EXPIRED))
    assert value("gearshift_queue_duration_seconds_sum", **FAST) == pytest.approx(0.02)
    assert value("gearshift_request_duration_seconds_count", **FAST) == 1
    assert value("gearshift_slack_seconds_count", **FAST) == 0


def test_the_queue(telemetry: PrometheusTelemetry, value: Read, triton: Read) -> None:
    for service_class in ("fast", "fast", "fast", "slow"):
        telemetry.admitted("a", service_class)
    telemetry.dequeued("a", "fast", 2)
    assert value("gearshift_queue_depth", **FAST) == 1
    assert triton("pending_request_count", model="a", version="") == 2
    assert triton("pending_request_count", model="b", version="") == 0


def test_a_batch(telemetry: PrometheusTelemetry, value: Read, triton: Read, ran: MakeRan) -> None:
    telemetry.ran(ran())
    telemetry.ran(ran(rows=5))
    assert value("gearshift_compute_duration_seconds_sum", **SMALL) == pytest.approx(0.006)
    assert value("gearshift_batch_size_bucket", **SMALL, le="4.0") == 1
    assert value("gearshift_batch_size_sum", **SMALL) == 8
    busy = value("gearshift_worker_busy_seconds_total", worker="1", device="cpu")
    assert busy == pytest.approx(0.008)
    assert triton("count", **V2) == 8
    assert triton("exec_count", **V2) == 2
    assert triton("queue_duration_us", **V2) == 20_000
    assert triton("compute_infer_duration_us", **V2) == 12_000
    assert triton("compute_infer_duration_histogram_us_count", **V2) == 4
    assert triton("compute_infer_duration_histogram_us_bucket", **V2, le="2500.0") == 0
    assert triton("compute_infer_duration_histogram_us_bucket", **V2, le="5000.0") == 4


def test_statistics_are_tritons(telemetry: PrometheusTelemetry, ran: MakeRan) -> None:
    statistics = telemetry.statistics("a", 2)
    telemetry.ran(ran())
    telemetry.ran(ran())
    assert telemetry.statistics("a", 2) is statistics
    assert (statistics.inferences, statistics.executions) == (6, 2)
    assert statistics.last_inference_ms == 1_700_000_000_250
    assert (statistics.compute_infer.count, statistics.compute_infer.ns) == (4, 12_000_000)
    assert (statistics.queue.count, statistics.queue.ns) == (4, 20_000_000)
    batch = statistics.batches[3]
    assert (batch.compute_infer.count, batch.compute_infer.ns) == (2, 6_000_000)


def test_a_failed_batch_kept_its_worker_busy_and_executed_nothing(
    telemetry: PrometheusTelemetry, value: Read, ran: MakeRan
) -> None:
    telemetry.ran(ran(failed=True))
    busy = value("gearshift_worker_busy_seconds_total", worker="1", device="cpu")
    assert busy == pytest.approx(0.004)
    assert value("gearshift_batch_size_count", **SMALL) == 0
    assert telemetry.statistics("a", 2).executions == 0


def test_triton_counts_success_and_failure_by_version(
    telemetry: PrometheusTelemetry, triton: Read, served: MakeAnswered, ended: MakeSettled
) -> None:
    telemetry.answered(served())
    telemetry.settled(ended(Outcome.FAILED, variant="small", version=2))
    telemetry.settled(ended(Outcome.SHED))
    telemetry.settled(ended(Outcome.CANCELLED))
    telemetry.settled(ended(Outcome.INVALID, model="nonsense"))
    assert triton("request_success", **V2) == 1
    assert triton("request_duration_us", **V2) == 4000
    assert triton("request_duration_histogram_us_sum", **V2) == pytest.approx(4000)
    assert triton("queue_duration_histogram_us_count", **V2) == 1
    assert triton("request_failure", **V2, reason="BACKEND") == 1
    assert triton("request_failure", model="a", version="", reason="REJECTED") == 1
    assert triton("request_failure", model="a", version="", reason="CANCELED") == 1
    assert telemetry.statistics("a", 2).fail.count == 1


def test_statistics_of_what_is_not_there_are_zeros(telemetry: PrometheusTelemetry) -> None:
    assert telemetry.statistics("a", 99).success.count == 0
    assert telemetry.statistics("nonsense", 1) is not telemetry.statistics("nonsense", 1)


def test_what_more_workers_would_have_brought(
    telemetry: PrometheusTelemetry, value: Read, served: MakeAnswered
) -> None:
    telemetry.answered(served(load_deficit=0.1))
    telemetry.answered(served())
    assert value("gearshift_load_deficit_sum", **FAST) == pytest.approx(0.1)
    assert value("gearshift_load_deficit_count", **FAST) == 2
    assert value("gearshift_accuracy_deficit_sum", **FAST) == pytest.approx(0.3)


def test_wanted_worker_time_is_of_who_ran_and_of_who_had_no_worker(
    telemetry: PrometheusTelemetry, value: Read, ran: MakeRan, ended: MakeSettled
) -> None:
    assert value("gearshift_wanted_worker_seconds_total", model="b") == 0
    telemetry.ran(ran(wanted=0.5))
    telemetry.ran(ran(wanted=0.25, failed=True))
    telemetry.settled(ended(Outcome.SHED, wanted=0.125))
    telemetry.settled(ended(Outcome.INVALID, model="nonsense", wanted=9.0))
    assert value("gearshift_wanted_worker_seconds_total", model="a") == 0.875
    assert value("gearshift_wanted_worker_seconds_total", model="nonsense") is None


def test_workers_are_counted_by_device(telemetry: PrometheusTelemetry, value: Read) -> None:
    telemetry.employs(["express", "cpu", "cpu"])
    assert value("gearshift_workers", device="cpu") == 2
    assert value("gearshift_workers", device="express") == 1


def test_the_catalog_is_described(value: Read) -> None:
    assert value("gearshift_variant_accuracy", **SMALL, source="declared") == 0.8
    assert value("gearshift_variant_artifact_bytes", **SMALL) == 1000
    assert value("gearshift_catalog_generation") == 1


def test_the_build_is_described(telemetry: PrometheusTelemetry) -> None:
    assert f'version="{__version__}"' in telemetry.exposition()[0].decode()


def test_rates_begin_at_zero(value: Read) -> None:
    assert value("gearshift_requests_total", **SMALL, service_class="slow", outcome="served") == 0
    assert value("gearshift_requests_total", **FAST, variant="", outcome="shed") == 0


def test_profiles_are_shown_by_quantile_and_the_fastest_device_wins() -> None:
    catalog = make_catalog(make_model("a"))
    telemetry = PrometheusTelemetry(catalog)
    small = catalog.model("a").by_name("small")
    stranger = make_model("a").variants[0]
    telemetry.profiled(
        [
            Profile(small, "cpu", [LatencyPoint(1, 0.002, 0.003)], 8),
            Profile(small, "gpu", [LatencyPoint(1, 0.001, 0.002), LatencyPoint(8, 1, 2)], 8),
            Profile(stranger, "cpu", [LatencyPoint(1, 9, 9)], 8),
        ]
    )

    def latency(variant: str, batch: str, quantile: str) -> float | None:
        labels = {"model": "a", "variant": variant, "batch": batch, "quantile": quantile}
        return telemetry.registry.get_sample_value("gearshift_variant_latency_seconds", labels)

    assert (latency("small", "1", "0.5"), latency("small", "1", "0.99")) == (0.001, 0.002)
    assert latency("small", "8", "0.99") == 2
    assert latency("large", "1", "0.5") is None


def test_latency_is_shown_as_it_is_learned() -> None:
    catalog = make_catalog(make_model("a"))
    telemetry = PrometheusTelemetry(catalog)
    profile = Profile(catalog.model("a").by_name("small"), "cpu", [LatencyPoint(1, 0.1, 0.11)], 1)
    telemetry.profiled([profile])
    for run in range(50):
        profile.observe(1, 0.3, float(run))
    profile.settle(50.0)
    labels = {"model": "a", "variant": "small", "batch": "1", "quantile": "0.5"}
    shown = telemetry.registry.get_sample_value("gearshift_variant_latency_seconds", labels)
    assert shown == pytest.approx(0.3, rel=0.1)


def test_runs_by_how_they_ended(telemetry: PrometheusTelemetry, value: Read, ran: MakeRan) -> None:
    for p50, p99 in ((0.004, 0.005), (0.0039, 0.004), (0.001, 0.0039), (0.001, 0.002)):
        telemetry.ran(ran(p50=p50, p99=p99))  # each took 1 + 3 ms
    telemetry.ran(ran(p50=0.001, p99=0.002, failed=True))
    counts = [
        value("gearshift_runs_total", **SMALL, ended=ended)
        for ended in ("within_p50", "within_p99", "beyond_p99", "failed")
    ]
    assert counts == [1, 1, 2, 1]


def test_failures_of_a_variant_are_there_at_zero_before_the_first(
    value: Read, telemetry: PrometheusTelemetry, ended: MakeSettled
) -> None:
    labels = {**SMALL, "service_class": "fast", "outcome": "failed"}
    assert value("gearshift_requests_total", **labels) == 0
    telemetry.settled(ended(Outcome.FAILED, variant="small", version=2))
    assert value("gearshift_requests_total", **labels) == 1
