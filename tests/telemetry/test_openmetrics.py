"""The page as OpenMetrics: valid to the letter, with exemplars for those who ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from builders import make_catalog, make_model
from gearshift.core.catalog import ServiceClass
from gearshift.errors import Outcome
from gearshift.ports import Answered, Ran, Served, Settled, TraceIds
from gearshift.telemetry import (
    PrometheusTelemetry,
    exposed,
    is_openmetrics,
    packed,
    unpacked,
    with_exemplars,
)

FULL = TraceIds("f" * 32, "e" * 16)
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;"
    "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
"""What Prometheus sends."""
REQUEST, QUEUE, COMPUTE = (
    f"gearshift_{name}_duration_seconds" for name in ("request", "queue", "compute")
)


def ids(number: int) -> TraceIds:
    return TraceIds(f"{number:032x}", f"{number:016x}")


def read(page: tuple[bytes, str]) -> list[Metric]:
    assert page[1] == "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=" + (
        "underscores"
    )
    return list(text_string_to_metric_families(page[0].decode()))


def exemplars(families: Iterable[Metric]) -> dict[tuple[str, str], tuple[str, float, float]]:
    """By family and bucket: trace, value, time."""
    return {
        (family.name, sample.labels["le"]): (
            sample.exemplar.labels["trace_id"],
            sample.exemplar.value,
            float(sample.exemplar.timestamp),
        )
        for family in families
        for sample in family.samples
        if sample.exemplar is not None
    }


@pytest.fixture
def filled(
    telemetry: PrometheusTelemetry,
    served: Callable[..., Answered],
    ended: Callable[..., Settled],
    ran: Callable[..., Ran],
) -> PrometheusTelemetry:
    for outcome in Outcome:
        telemetry.settled(ended(outcome, slack=-1.0, trace=FULL))
        telemetry.settled(ended(outcome, model="unknown", service_class="unknown"))
    telemetry.answered(served(late=True, slack=-1.0))
    telemetry.admitted("a", "slow")
    telemetry.ran(ran(trace=FULL))
    telemetry.ran(ran(failed=True, trace=FULL))
    return telemetry


def answered(
    *durations: float, traced: Iterable[int] = (), service_class: str = "fast"
) -> Answered:
    requests = [Served(service_class, False, d, d / 2, 1.0) for d in durations]
    chosen = [(requests[at], ids(at + 1)) for at in traced]
    return Answered("a", "small", 2, 0.8, 0.15, requests, traced=chosen)


def test_the_page_is_openmetrics_to_the_letter(filled: PrometheusTelemetry) -> None:
    page = filled.exposition(PROMETHEUS)
    families = read(page)
    assert page[0].endswith(b"# EOF\n")
    assert page[0].count(b"# EOF") == 1
    # The same series and values as in the other format, but for the one that is forbidden here.
    plain = text_families(filled.exposition()[0].decode())
    series = [
        {(s.name, *s.labels.items()): s.value for f in each for s in f.samples}
        for each in (families, plain)
    ]
    lost = {key[0] for key in series[1].keys() - series[0].keys()}
    assert lost == {"gearshift_slack_seconds_count"}
    assert series[0].items() <= series[1].items()


def test_an_exemplar_is_the_last_traced_request_of_its_bucket(
    telemetry: PrometheusTelemetry, ran: Callable[..., Ran]
) -> None:
    telemetry.answered(answered(0.004, 0.0041, 0.003, 20.0, traced=(0, 1, 3)))
    telemetry.ran(ran(trace=ids(9)))
    at = 1_700_000_000.25
    assert exemplars(read(telemetry.exposition(PROMETHEUS))) == {
        (REQUEST, "0.005"): (ids(2).trace_id, 0.0041, at),
        (REQUEST, "+Inf"): (ids(4).trace_id, 20.0, at),
        (QUEUE, "0.0025"): (ids(2).trace_id, 0.00205, at),
        (QUEUE, "10.0"): (ids(4).trace_id, 10.0, at),
        (COMPUTE, "0.005"): (ids(9).trace_id, 0.003, at),
    }


@pytest.mark.parametrize(
    ("outcome", "shown"),
    [
        (Outcome.LATE, {REQUEST}),
        (Outcome.CANCELLED, {REQUEST}),
        (Outcome.EXPIRED, {REQUEST, QUEUE}),
        (Outcome.SHED, set()),
        (Outcome.INVALID, set()),
    ],
)
def test_who_got_no_answer_is_shown_where_it_is_counted(
    telemetry: PrometheusTelemetry,
    ended: Callable[..., Settled],
    outcome: Outcome,
    shown: set[str],
) -> None:
    telemetry.settled(ended(outcome, trace=ids(1)))
    found = exemplars(read(telemetry.exposition(PROMETHEUS)))
    assert found == {(name, "0.025"): (ids(1).trace_id, 0.02, 1_700_000_000.25) for name in shown}


def test_names_of_callers_never_become_labels_of_exemplars(
    telemetry: PrometheusTelemetry, ended: Callable[..., Settled]
) -> None:
    telemetry.settled(ended(Outcome.LATE, service_class="no such", trace=ids(1)))
    families = read(telemetry.exposition(PROMETHEUS))
    assert exemplars(families)
    assert "no such" not in str(families)


def test_of_several_processes_the_latest_is_shown(ran: Callable[..., Ran]) -> None:
    catalog = make_catalog(make_model("a", classes=(ServiceClass("fast"),)))
    told = []
    for number, at in ((1, 30.0), (2, 50.0), (3, 40.0)):
        one = PrometheusTelemetry(catalog, wall_clock=lambda at=at: at)
        one.ran(ran(trace=ids(number)))
        told.append(packed(one.exemplars()))
    page = exposed(with_exemplars(one.families(), unpacked(told)), PROMETHEUS)
    assert exemplars(read(page)) == {(COMPUTE, "0.005"): (ids(2).trace_id, 0.003, 50.0)}


def test_only_who_asks_for_it_gets_it(filled: PrometheusTelemetry) -> None:
    for accept in ("", "*/*", "text/plain", "text/html,application/json;q=0.9"):
        page, content_type = filled.exposition(accept)
        assert not is_openmetrics(accept)
        assert content_type.startswith("text/plain; version=0.0.4")
        assert b"trace_id" not in page
        assert b"EOF" not in page
    assert is_openmetrics("application/openmetrics-text")


def test_the_labels_of_an_exemplar_are_short_enough() -> None:
    """OpenMetrics 1.0: 128 characters, names and values together."""
    assert sum(len(name) + len(value) for name, value in FULL._asdict().items()) <= 128
