"""One page from several: what grows is added up and never falls, levels come from the living."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from builders import make_catalog, make_model
from gearshift.access import AccessMetrics, AuditLog
from gearshift.core.drift import Shift
from gearshift.core.limits import Usage
from gearshift.core.profile import LatencyPoint, Profile
from gearshift.drift import DriftCollector
from gearshift.drift.watch import Drift
from gearshift.feedback import Book, FeedbackCollector, Readings
from gearshift.ports import Answered, Placed, Ran, Served
from gearshift.telemetry import (
    GenerationsCollector,
    Life,
    LimitCollector,
    PlacedCollector,
    PrometheusTelemetry,
)
from gearshift.telemetry.merge import GREATEST, LEAST, SUMMED, Fleet, Past, merged
from gearshift.telemetry.page import exposed
from prometheus_judge import judged


def merge(living: list[bytes], past: Past, fleet: Fleet | None = None) -> bytes:
    return exposed(merged(living, past, fleet))[0]


Series = tuple[str, tuple[tuple[str, str], ...]]


def read(page: bytes) -> dict[Series, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def worked(served: int, waiting: int, seconds: float = 0.004) -> PrometheusTelemetry:
    """A process that has answered `served` requests and has `waiting` more."""
    telemetry = PrometheusTelemetry(make_catalog(make_model("a")))
    telemetry.employs(["cpu", "cpu"])
    for _ in range(served):
        request = Served(
            "default", late=False, duration=seconds, queue=0.001, slack=0.5, load_deficit=0.05
        )
        telemetry.answered(Answered("a", "small", 2, 0.8, 0.1, [request]))
        telemetry.ran(
            Ran(
                model="a",
                variant="small",
                version=2,
                worker=0,
                device="cpu",
                requests=1,
                rows=3,
                queue=0.001,
                input=0.0,
                compute=seconds,
                output=0.0,
                wanted=0.25,
            )
        )
    for _ in range(waiting):
        telemetry.admitted("a", "default")
    return telemetry


@functools.cache
def page(served: int, waiting: int = 0) -> bytes:
    return worked(served, waiting).exposition()[0]


def past(*pages: bytes) -> Past:
    made = Past()
    for ended in pages:
        made.add(ended)
    return made


def test_one_page_stays_as_it_is() -> None:
    for made in (worked(3, 2).exposition()[0], worked(3, 2).triton_exposition()[0]):
        assert merge([made], Past()) == made


def test_what_grows_is_added_up_and_the_ended_stay_in_the_sum() -> None:
    both = read(merge([page(2, waiting=1), page(3, waiting=4)], past(page(5, waiting=9))))
    key = {"model": "a", "service_class": "default"}
    by_class = tuple(sorted(key.items()))
    served = tuple(sorted({**key, "variant": "small", "outcome": "served"}.items()))
    assert both["gearshift_requests_total", served] == 10
    assert both["gearshift_request_duration_seconds_count", by_class] == 10
    assert both["gearshift_request_duration_seconds_sum", by_class] == pytest.approx(0.04)
    bucket = tuple(sorted({**key, "le": "+Inf"}.items()))
    assert both["gearshift_request_duration_seconds_bucket", bucket] == 10
    assert both["gearshift_served_accuracy_sum", by_class] == pytest.approx(8.0)
    assert both["gearshift_load_deficit_sum", by_class] == pytest.approx(0.5)
    assert both["gearshift_load_deficit_count", by_class] == 10
    assert both["gearshift_wanted_worker_seconds_total", (("model", "a"),)] == 2.5
    # Two workers in each of the two that live.
    assert both["gearshift_workers", (("device", "cpu"),)] == 4
    # What waited in the one that ended waits no more.
    assert both["gearshift_queue_depth", by_class] == 5


def test_tritons_page_is_added_up_too() -> None:
    pages = [worked(n, waiting=n).triton_exposition()[0] for n in (1, 2)]
    both = read(merge(pages, past(worked(4, waiting=7).triton_exposition()[0])))
    version = (("model", "a"), ("version", "2"))
    assert both["nv_inference_count", version] == 21
    assert both["nv_inference_request_success", version] == 7
    assert both["nv_inference_pending_request_count", (("model", "a"), ("version", ""))] == 3


def test_what_is_the_same_everywhere_is_not_added_up() -> None:
    one = read(page(1))
    both = read(merge([page(1), page(1)], past(page(1))))
    for (name, labels), value in one.items():
        if name in GREATEST:
            assert both[name, labels] == value, name


def test_of_latencies_the_greatest_is_shown() -> None:
    pages = []
    for p99 in (0.002, 0.009, 0.004):
        telemetry = worked(0, 0)
        variants = telemetry.catalog.model("a").variants
        telemetry.profiled(Profile(v, "cpu", [LatencyPoint(1, 0.001, p99)], 8) for v in variants)
        pages.append(telemetry.exposition()[0])
    labels = (("batch", "1"), ("model", "a"), ("quantile", "0.99"), ("variant", "small"))
    name = "gearshift_variant_latency_seconds"
    assert read(merge(pages[:2], past(pages[2])))[name, labels] == pytest.approx(0.009)
    assert (name, labels) not in read(merge([], past(*pages)))


def drifted(psi: float, rows: int) -> bytes:
    """The page of a process whose share of the inputs has drifted that far."""
    telemetry = worked(0, 0)
    drift = Drift(rows, {"x[0]": Shift(psi, 0.0), "x[1]": Shift(0.0, 1.0)}, psi > 0.25)
    telemetry.registry.register(DriftCollector(lambda: {"a": drift}))
    return telemetry.exposition()[0]


def test_of_drift_the_furthest_is_shown_and_rows_are_added_up() -> None:
    """Each process compares its own share of the inputs; only the living."""
    both = read(merge([drifted(0.125, 300), drifted(0.5, 400)], past(drifted(0.75, 500))))
    name, model = "gearshift_input_drift", (("model", "a"),)
    assert both[name, model] == 0.5
    assert both[f"{name}_psi", (("feature", "x[0]"), *model)] == 0.5
    assert both[f"{name}_mean", model] == 0.25
    assert both[f"{name}_rows", model] == 700
    assert both["gearshift_input_drifted", model] == 1
    again = read(merge([drifted(0.125, 300), drifted(0.0, 400)], past(drifted(0.75, 500))))
    assert again["gearshift_input_drifted", model] == 0


def test_every_gauge_and_quantile_has_its_rule() -> None:
    telemetry = worked(1, 1)
    variants = telemetry.catalog.model("a").variants
    telemetry.profiled(Profile(v, "cpu", [LatencyPoint(1, 0.001, 0.002)], 8) for v in variants)
    telemetry.registry.register(FeedbackCollector(Book(), Readings(telemetry.catalog)))
    telemetry.registry.register(Life(telemetry.catalog, 30.0))
    telemetry.registry.register(LimitCollector(Usage()))
    certified: Any = SimpleNamespace(expiry=1.0)
    telemetry.registry.register(AccessMetrics(AuditLog(None), certified))
    telemetry.registry.register(GenerationsCollector(lambda: {"a": 1}))
    placed = Placed("gpu0", "cuda", 100)
    telemetry.registry.register(
        PlacedCollector(lambda: [(telemetry.catalog.model("a"), variants[0], placed)])
    )
    ProcessCollector(registry=telemetry.registry)
    levels = set()
    for made in (
        telemetry.exposition()[0],
        telemetry.triton_exposition()[0],
        drifted(0.5, 300),
    ):
        for family in text_string_to_metric_families(made.decode()):
            quantiles = any(sample.name == family.name for sample in family.samples)
            if family.type == "gauge" or (family.type == "summary" and quantiles):
                levels.add(family.name)
    assert levels == SUMMED | GREATEST | LEAST


def test_all_processes_together_use_what_each_does_and_are_as_old_as_the_first() -> None:
    def process(cpu: float, resident: int, began: float) -> bytes:
        return (
            "# TYPE process_cpu_seconds_total counter\n"
            f"process_cpu_seconds_total {cpu}\n"
            "# TYPE process_resident_memory_bytes gauge\n"
            f"process_resident_memory_bytes {resident}\n"
            "# TYPE process_start_time_seconds gauge\n"
            f"process_start_time_seconds {began}\n"
        ).encode()

    both = read(merge([process(1.5, 300, 50.0), process(2.0, 200, 20.0)], past(process(4, 99, 1))))
    assert both["process_cpu_seconds_total", ()] == 7.5
    assert both["process_resident_memory_bytes", ()] == 500
    assert both["process_start_time_seconds", ()] == 20.0


def test_the_fleet_is_told_and_the_page_passes_prometheus_own_judge() -> None:
    made = merge([page(1, 1), page(2)], past(page(3)), Fleet(serving=2, wanted=3, replaced=1))
    told = read(made)
    assert told["gearshift_processes", (("state", "wanted"),)] == 3
    assert told["gearshift_processes", (("state", "serving"),)] == 2
    assert told["gearshift_processes_replaced_total", ()] == 1
    assert judged(made) == (0, [])


def test_without_pages_there_is_still_one() -> None:
    assert b"gearshift_processes" in merge([], Past(), Fleet(0, 2, 0))


counts = st.integers(0, 6)


@settings(max_examples=25)
@given(st.lists(counts, max_size=4), st.lists(counts, max_size=4))
def test_nothing_is_lost_or_counted_twice(living: list[int], ended: list[int]) -> None:
    both = read(merge([page(n, n) for n in living], past(*(page(n, n) for n in ended))))
    answered = sum(
        value
        for (name, labels), value in both.items()
        if name == "gearshift_requests_total" and ("outcome", "served") in labels
    )
    assert answered == sum(living) + sum(ended)
    waiting = sum(v for (name, _), v in both.items() if name == "gearshift_queue_depth")
    assert waiting == sum(living)


@settings(max_examples=25)
@given(st.lists(counts, min_size=1, max_size=4), st.integers(0, 3), counts)
def test_what_grows_does_not_fall_when_one_is_replaced(
    living: list[int], which: int, more: int
) -> None:
    pages = [page(n, n) for n in living]
    before = read(merge(pages, Past()))
    gone = pages.pop(which % len(pages))
    after = read(merge([*pages, page(0)], past(gone)))
    later = read(merge([page(more), *pages], past(merge([], past(gone)))))
    for series, value in before.items():
        if series[0] in SUMMED | GREATEST:
            continue
        assert after[series] >= value
        assert later[series] >= after[series]


names = st.text('abc"\\\n{},= é', max_size=5)


@given(st.lists(st.tuples(names, st.floats(allow_nan=False)), max_size=5))
def test_any_label_and_value_comes_through(found: list[tuple[str, float]]) -> None:
    family = GaugeMetricFamily("any", "Help with \\ and\nlines.", labels=("label",))
    for label, value in dict(found).items():
        family.add_metric((label,), value)

    class Fixed:
        collect: Callable[..., Any] = staticmethod(lambda: [family])

    registry = CollectorRegistry()
    registry.register(Fixed())  # type: ignore[arg-type]
    made = generate_latest(registry)
    assert read(merge([made], Past())) == read(made)
    assert read(merge([made, made], Past())) == read(made)
