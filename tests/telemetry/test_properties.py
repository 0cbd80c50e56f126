"""Whatever happens, in whatever order: nothing is lost, counted twice, or grows without bound."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from builders import make_catalog, make_model
from gearshift.errors import Outcome
from gearshift.ports import Answered, Ran, Served, Settled
from gearshift.telemetry import PrometheusTelemetry

models = st.sampled_from(["a", "b", "", "unknown", 'quo"te\n'])
classes = st.sampled_from(["default", "", "other"])
variants = st.sampled_from([("large", 1), ("small", 2), ("", 0), ("ghost", 7)])


@st.composite
def settled(draw: st.DrawFn) -> Settled:
    variant, version = draw(variants)
    return Settled(
        model=draw(models),
        service_class=draw(classes),
        variant=variant,
        version=version,
        outcome=draw(st.sampled_from(Outcome)),
        status="X",
        duration=draw(st.floats(0, 20)),
        slack=draw(st.none() | st.floats(-20, 20)),
    )


@st.composite
def answered(draw: st.DrawFn) -> Answered:
    """By a variant that there is: nobody else answers."""
    variant, version = draw(st.sampled_from([("large", 1), ("small", 2)]))
    one = st.builds(
        Served,
        service_class=classes,
        late=st.booleans(),
        duration=st.floats(0, 20),
        queue=st.floats(0, 20),
        slack=st.floats(-20, 20) | st.just(math.inf),
    )
    requests = draw(st.lists(one, min_size=1, max_size=9))
    model = draw(st.sampled_from(["a", "b"]))
    return Answered(model, variant, version, draw(st.floats(0, 1)), draw(st.floats(0, 1)), requests)


@st.composite
def ran(draw: st.DrawFn) -> Ran:
    variant, version = draw(variants)
    return Ran(
        model=draw(models),
        variant=variant,
        version=version,
        worker=draw(st.integers(0, 2)),
        device="cpu",
        requests=draw(st.integers(1, 9)),
        rows=draw(st.integers(1, 5000)),
        queue=draw(st.floats(0, 20)),
        input=draw(st.floats(0, 1)),
        compute=draw(st.floats(0, 20)),
        output=draw(st.floats(0, 1)),
        failed=draw(st.booleans()),
    )


def total(telemetry: PrometheusTelemetry, name: str) -> float:
    return sum(
        sample.value
        for family in telemetry.registry.collect()
        for sample in family.samples
        if sample.name == name
    )


def pages(telemetry: PrometheusTelemetry) -> list[str]:
    return [page()[0].decode() for page in (telemetry.exposition, telemetry.triton_exposition)]


def fill(events: list[Any]) -> PrometheusTelemetry:
    telemetry = PrometheusTelemetry(make_catalog(make_model("a"), make_model("b")))
    for event in events:
        if isinstance(event, Settled):
            telemetry.settled(event)
        elif isinstance(event, Answered):
            telemetry.answered(event)
        elif isinstance(event, Ran):
            telemetry.ran(event)
        else:
            model, service_class = event
            telemetry.admitted(model, service_class)
            telemetry.dequeued(model, service_class, 1)
    return telemetry


events = st.lists(settled() | answered() | ran() | st.tuples(models, classes), max_size=40)
quick = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(events)
def test_every_request_is_counted_exactly_once(events: list[Any]) -> None:
    telemetry = fill(events)
    ended = [event for event in events if isinstance(event, Settled)]
    served = [each for e in events if isinstance(e, Answered) for each in e.requests]
    assert total(telemetry, "gearshift_requests_total") == len(ended) + len(served)
    assert total(telemetry, "gearshift_served_accuracy_count") == len(served)
    slack = [event for event in ended if event.slack is not None]
    timed = [each for each in served if each.slack < math.inf]
    assert total(telemetry, "gearshift_slack_seconds_count") == len(slack) + len(timed)
    assert total(telemetry, "gearshift_queue_depth") == 0


@quick
@given(events)
def test_triton_statistics_agree_with_each_other(events: list[Any]) -> None:
    telemetry = fill(events)
    for model in ("a", "b"):
        for variant, version in (("large", 1), ("small", 2)):
            statistics = telemetry.statistics(model, version)
            batches = [
                event
                for event in events
                if isinstance(event, Ran)
                and (event.model, event.variant, event.failed) == (model, variant, False)
            ]
            assert statistics.executions == len(batches)
            assert statistics.inferences == sum(event.rows for event in batches)
            requests = sum(event.requests for event in batches)
            assert (
                statistics.compute_input.count
                == statistics.compute_infer.count
                == statistics.compute_output.count
                == statistics.queue.count
                == requests
            )
            assert sum(b.compute_infer.count for b in statistics.batches.values()) == len(batches)


@quick
@given(events)
def test_the_pages_parse_and_their_histograms_hold(events: list[Any]) -> None:
    for page in pages(fill(events)):
        for family in text_string_to_metric_families(page):
            if family.type != "histogram":
                continue
            counts: dict[frozenset[tuple[str, str]], list[float]] = {}
            for sample in family.samples:
                if sample.name.endswith("_bucket"):
                    labels = frozenset((k, v) for k, v in sample.labels.items() if k != "le")
                    counts.setdefault(labels, []).append(sample.value)
                elif sample.name.endswith("_count"):
                    assert counts[frozenset(sample.labels.items())][-1] == sample.value
            assert all(values == sorted(values) for values in counts.values())


@quick
@given(st.lists(st.text(max_size=5), min_size=3, max_size=20))
def test_names_from_outside_never_become_series(names: list[str]) -> None:
    def event(name: str) -> Settled:
        return Settled(
            model=name,
            service_class=name,
            variant=name,
            version=len(name) + 50,
            outcome=Outcome.INVALID,
            status="NOT_FOUND",
            duration=0.001,
        )

    few, many = fill([event("unknown")]), fill([event(f"_{name}") for name in names])
    for one, other in zip(pages(few), pages(many), strict=True):
        assert len(one.splitlines()) == len(other.splitlines())
