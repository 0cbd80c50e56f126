"""Which requests are traced, and in whose trace."""

from __future__ import annotations

import pytest

from gearshift import tracing
from gearshift.errors import UNEXPECTED, ConfigurationInvalid
from gearshift.tracing import Share, setup

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
METHOD = "inference.GRPCInferenceService/ModelInfer"


def context(flags: str = "01", version: str = "00", trace: str = TRACE, parent: str = PARENT):
    return f"{version}-{trace}-{parent}-{flags}"


@pytest.fixture
def make_traces(collector):
    made = []

    def make(ratio: float, process: int | None = None):
        made.append(tracing.start(collector.endpoint, ratio, process))
        return made[-1]

    yield make
    # Each puts back what it found, the last one first.
    for traces in reversed(made):
        traces.close(10.0)


def begin(traces, *metadata: tuple[str, str | bytes], model: str = ""):
    return traces.begin(METHOD, metadata, 1.0, 1.001, model=model)


def test_the_caller_decides_where_it_has_a_trace(make_traces):
    never, always = make_traces(0.0), make_traces(1.0)
    assert begin(never, ("traceparent", context("01"))).ids.trace_id == TRACE
    assert begin(always, ("traceparent", context("00"))) is None
    assert begin(never) is None
    assert begin(always).ids.trace_id != TRACE


def test_of_the_others_a_share_is_traced(make_traces):
    traces = make_traces(0.25)
    sampled = [begin(traces) is not None for _ in range(4_000)]
    # Beyond six standard deviations only once in a billion runs.
    assert sum(sampled) / 4_000 == pytest.approx(0.25, abs=0.042)


def test_who_is_traced_may_change(make_traces):
    traces = make_traces(0.0)
    traces.sample(Share(True, 1.0), {})
    assert begin(traces) is not None
    traces.sample(Share(False, 1.0), {})
    assert begin(traces) is None
    # Off is off: also for callers with a trace.
    assert begin(traces, ("traceparent", context("01"))) is None
    traces.sample(Share(True, None), {})
    assert begin(traces) is None
    assert begin(traces, ("traceparent", context("01"))).ids.trace_id == TRACE


def test_a_model_may_have_a_share_of_its_own(make_traces):
    traces = make_traces(0.0)
    assert not traces.by_model
    traces.sample(Share(False, None), {"m": Share(True, 1.0), "begun": Share(True, None)})
    assert traces.by_model
    caller = ("traceparent", context("01"))
    assert begin(traces, model="m") is not None
    assert begin(traces, model="begun") is None
    assert begin(traces, caller, model="begun").ids.trace_id == TRACE
    for model in ("other", ""):
        assert begin(traces, caller, model=model) is None
    traces.sample(Share(True, 1.0), {"m": Share(False, 1.0)})
    assert begin(traces, caller, model="m") is None
    assert begin(traces, model="other") is not None
    traces.sample(Share(True, 1.0), {})
    assert not traces.by_model
    assert begin(traces, model="m") is not None


@pytest.mark.parametrize(
    "told",
    [
        "",
        "nonsense",
        context(trace="0" * 32),
        context(parent="0" * 16),
        context(version="ff"),
        context(trace=TRACE.upper()),
        context() + "-more",
        "x" * 10_000,
    ],
)
def test_a_context_that_cannot_be_read_counts_as_none(make_traces, collector, told):
    assert begin(make_traces(0.0), ("traceparent", told)) is None
    found = begin(make_traces(1.0), ("traceparent", told))
    assert found.ids.trace_id != TRACE
    found.failed(ValueError("over"), UNEXPECTED, 2.0)
    (root,) = collector.roots(1)
    assert root.parent_id == ""
    assert root.attributes.get("gearshift.unreadable_traceparent", "") == told[:128]


def test_two_contexts_are_none(make_traces):
    other = context(trace="1" * 32)
    found = begin(make_traces(1.0), ("traceparent", context()), ("traceparent", other))
    assert found.ids.trace_id not in (TRACE, "1" * 32)


def test_a_later_version_of_the_format_is_read_as_far_as_it_is_known(make_traces):
    found = begin(make_traces(0.0), ("traceparent", context(version="cc") + "-what.comes"))
    assert found.ids.trace_id == TRACE


def test_the_state_of_a_trace_goes_on(make_traces, collector):
    found = begin(
        make_traces(0.0),
        ("traceparent", context()),
        ("tracestate", "vendor=one"),
        ("tracestate", "other=two"),
        ("traceparent-bin", b"\x00"),
    )
    found.failed(ValueError("over"), UNEXPECTED, 2.0)
    (root,) = collector.roots(1)
    assert root.state == "vendor=one,other=two"
    assert [child.state for child in collector.children(root)] == [root.state]


def test_opentelemetrys_own_variables_overrule_the_ratio(make_traces, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    traces = make_traces(0.0)
    assert begin(traces) is not None
    assert begin(traces, ("traceparent", context("00"))) is not None
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    assert begin(make_traces(1.0)) is None


def test_who_sends_them_is_told_by_the_environment_or_by_itself(
    make_traces, collector, monkeypatch
):
    begin(make_traces(1.0, 3)).failed(ValueError("over"), UNEXPECTED, 2.0)
    (root,) = collector.roots(1)
    assert root.resource["service.name"] == "gearshift"
    assert root.resource["gearshift.process"] == 3
    one = root.resource["service.instance.id"]
    monkeypatch.setenv("OTEL_SERVICE_NAME", "fraud")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-7,k8s.node.name=n1")
    begin(make_traces(1.0, 3)).failed(ValueError("over"), UNEXPECTED, 2.0)
    _, root = collector.roots(2)
    assert root.resource["service.name"] == "fraud"
    assert root.resource["service.instance.id"] == "pod-7/3"
    assert root.resource["k8s.node.name"] == "n1"
    assert one not in ("", "pod-7/3")


def test_a_fault_in_tracing_costs_the_trace_only(make_traces, collector):
    traces = make_traces(1.0)
    assert traces.begin(METHOD, None, 1.0, 1.0) is None  # nothing to look through
    found = begin(traces)
    found.admitted(None, 2.0)
    found.went_on(None, 2.0)
    found.failed(ValueError("over"), None, 2.0)
    begin(traces).failed(ValueError("over"), UNEXPECTED, 2.0)
    assert len(collector.roots(1)) == 1


def test_without_the_packages_it_is_said_what_to_do(monkeypatch):
    monkeypatch.setattr(setup, "PACKAGES", ("opentelemetry.nowhere.at_all",))
    said = r"http://c:4317.*nowhere.*pip install 'gearshift\[otel\]'"
    with pytest.raises(ConfigurationInvalid, match=said):
        tracing.start("http://c:4317", 0.1)
