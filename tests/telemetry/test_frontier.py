"""The snapshot says what /metrics says; the watch keeps it fresh."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from builders import make_catalog, make_model
from gearshift.core.catalog import Cascade, Model
from gearshift.core.frontier import ModelSnapshot, Snapshot, VariantSnapshot, between
from gearshift.core.profile import LatencyPoint, Profile
from gearshift.core.residency import Place
from gearshift.errors import Outcome
from gearshift.ports import Answered, Settled
from gearshift.telemetry import (
    FrontierWatch,
    Held,
    PrometheusTelemetry,
    ResidencyCollector,
    beside,
    board,
    merged,
)
from gearshift.telemetry.frontier import MAX_AGE, snapshot
from gearshift.telemetry.merge import Past


@pytest.fixture
def busy(
    telemetry: PrometheusTelemetry,
    served: Callable[..., Answered],
    ended: Callable[..., Settled],
) -> PrometheusTelemetry:
    """Two answers of `small`, one of them late, one shed, one invalid, two waiting."""
    telemetry.answered(served())
    telemetry.answered(served(late=True, slack=-0.001))
    telemetry.settled(ended(Outcome.SHED))
    telemetry.settled(ended(Outcome.INVALID, service_class=""))
    telemetry.admitted("a", "slow")
    telemetry.admitted("a", "slow")
    small = telemetry.catalog.models["a"].by_name("small")
    telemetry.profiled([Profile(small, "cpu", [LatencyPoint(1, 0.003, 0.004)], 1)])
    return telemetry


def test_it_is_what_the_page_says(busy: PrometheusTelemetry) -> None:
    families = list(text_string_to_metric_families(busy.exposition()[0].decode()))
    read = snapshot(families, 1.0, 2.0)
    assert read == snapshot(busy.families(), 1.0, 2.0)
    model = read.models["a"]
    small, fast, slow, none = (
        model.variants["small"],
        *(model.classes[name] for name in ("fast", "slow", "")),
    )
    assert (small.accuracy, small.declared, small.source) == (0.8, 0.8, "declared")
    assert (small.answered, small.artifact_bytes) == (2, 1000)
    assert (small.p50, small.p99) == (0.003, 0.004)
    assert (small.live, small.labels, small.fallen) == (None, 0, False)
    assert (fast.ended["served"], fast.ended["late"], fast.ended["shed"]) == (1, 1, 1)
    assert (fast.answered, fast.accuracy, fast.deficit) == (2, 1.6, 0.3)
    assert slow.waiting == 2
    assert none.ended["invalid"] == 1
    # Nobody asked without a class there, so it is not shown.
    assert set(read.models["b"].classes) == {"default"}


def test_several_processes_are_one(busy: PrometheusTelemetry) -> None:
    page = busy.exposition()[0]
    past = Past()
    past.add(page)
    both = snapshot(merged([page, page], past), 1.0, 2.0).models["a"]
    assert both.variants["small"].answered == 6
    assert both.variants["small"].p50 == 0.003
    assert both.classes["fast"].accuracy == pytest.approx(4.8)
    assert both.classes["slow"].waiting == 4


def feedback() -> Iterable[Metric]:
    names = ("model", "variant")
    accuracy = GaugeMetricFamily("gearshift_variant_accuracy", "", labels=(*names, "source"))
    accuracy.add_metric(("m", "v", "measured"), 0.9)
    accuracy.add_metric(("m", "v", "live"), 0.85)
    yield accuracy
    interval = GaugeMetricFamily(
        "gearshift_variant_accuracy_interval", "", labels=(*names, "bound")
    )
    interval.add_metric(("m", "v", "low"), 0.82)
    interval.add_metric(("m", "v", "high"), 0.88)
    yield interval
    for name, value in (("accuracy_used", 0.86), ("fallen", 1.0)):
        family = GaugeMetricFamily(f"gearshift_variant_{name}", "", labels=names)
        family.add_metric(("m", "v"), value)
        family.add_metric(("m", "unheard_of"), value)
        yield family
    shadow = CounterMetricFamily("gearshift_shadow", "", labels=(*names, "service_class", "agreed"))
    for service_class, agreed, rows in (("a", "true", 7), ("b", "true", 2), ("a", "false", 1)):
        shadow.add_metric(("m", "v", service_class, agreed), rows)
    yield shadow
    corrected = GaugeMetricFamily("gearshift_shadow_accuracy", "", labels=names)
    corrected.add_metric(("m", "v"), 0.87)
    yield corrected
    bounds = GaugeMetricFamily("gearshift_shadow_accuracy_interval", "", labels=(*names, "bound"))
    bounds.add_metric(("m", "v", "low"), 0.83)
    bounds.add_metric(("m", "v", "high"), 0.9)
    yield bounds
    standing = GaugeMetricFamily("gearshift_variant_standing", "", labels=(*names, "standing"))
    standing.add_metric(("m", "v", "canary"), 1)
    standing.add_metric(("m", "v", "withdrawn"), 0)
    yield standing
    labels = GaugeMetricFamily("gearshift_feedback_labels", "", labels=names)
    labels.add_metric(("m", "v"), 321)
    yield labels
    unknown = GaugeMetricFamily("gearshift_something_else", "", labels=names)
    unknown.add_metric(("m", "v"), float("nan"))
    yield unknown


def test_feedback_is_shown_where_there_is_some() -> None:
    (variant,) = snapshot(feedback(), 0.0, 0.0).models["m"].variants.values()
    assert (variant.accuracy, variant.declared, variant.source) == (0.86, 0.9, "measured")
    assert (variant.live, variant.low, variant.high) == (0.85, 0.82, 0.88)
    assert (variant.labels, variant.fallen, variant.standing) == (321, True, "canary")
    assert (variant.shadowed, variant.agreed, variant.corrected) == (10, 9, 0.87)
    assert (variant.corrected_low, variant.corrected_high) == (0.83, 0.9)


def test_a_cascade_is_shown_with_the_accuracy_that_routing_goes_by() -> None:
    families = []
    for name, value in (
        ("accuracy", 0.95),
        ("accuracy_live", 0.8),
        ("accuracy_used", 0.81),
        ("feedback_labels", 321),
        ("fallen", 1),
    ):
        family = GaugeMetricFamily(f"gearshift_cascade_{name}", "", labels=("model", "cascade"))
        family.add_metric(("m", "both"), value)
        families.append(family)
    interval = GaugeMetricFamily(
        "gearshift_cascade_accuracy_interval", "", labels=("model", "cascade", "bound")
    )
    interval.add_metric(("m", "both", "low"), 0.77)
    interval.add_metric(("m", "both", "high"), 0.83)
    both = snapshot([*families, interval], 0.0, 0.0).models["m"].variants["both"]
    assert (both.accuracy, both.declared, both.live) == (0.81, 0.95, 0.8)
    assert (both.low, both.high, both.labels, both.fallen) == (0.77, 0.83, 321, True)


def test_what_a_cascade_answers_counts_beside_its_variants() -> None:
    accuracy = GaugeMetricFamily("gearshift_cascade_accuracy", "", labels=("model", "cascade"))
    accuracy.add_metric(("m", "both"), 0.95)
    answers = CounterMetricFamily(
        "gearshift_cascade_answers", "", labels=("model", "cascade", "stage")
    )
    for stage, count in (("first", 6), ("then", 3), ("fallback", 1)):
        answers.add_metric(("m", "both", stage), count)
    both = snapshot([accuracy, answers], 0.0, 0.0).models["m"].variants["both"]
    assert (both.accuracy, both.source, both.cascade, both.answered) == (0.95, "measured", True, 10)
    served = VariantSnapshot(name="v", accuracy=0.9, declared=0.9, answered=40)
    then = Snapshot(0.0, 0.0, {})
    now = Snapshot(10.0, 10.0, {"m": ModelSnapshot({"both": both, "v": served})})
    (model,) = between(then, now).models
    assert {each.now.name: each.share for each in model.variants} == {"both": 0.25, "v": 1.0}


class Watched:
    """Families whose reading is counted; the clock is the test's."""

    def __init__(self, telemetry: PrometheusTelemetry) -> None:
        self.telemetry = telemetry
        self.now = 100.0
        self.looks = 0
        self.broken = False
        self.looked = threading.Event()
        self.watch = FrontierWatch(
            self.families, clock=lambda: self.now, wall_clock=lambda: 1_000 + self.now
        )

    def families(self) -> Iterable[Metric]:
        self.looks += 1
        self.looked.set()
        if self.broken:
            raise RuntimeError
        return self.telemetry.families()


def test_who_asks_soon_after_another_sees_the_same(busy: PrometheusTelemetry) -> None:
    bench = Watched(busy)
    assert bench.watch.view().time == 1_100.0
    bench.now += MAX_AGE / 2
    assert bench.watch.view().time == 1_100.0
    assert bench.looks == 1
    bench.now += MAX_AGE
    assert bench.watch.view().time == 1_000 + bench.now
    assert bench.looks == 2


def test_it_looks_by_itself_and_a_failure_is_not_the_end(
    busy: PrometheusTelemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gearshift.telemetry.frontier.STEP", 0.005)
    bench = Watched(busy)
    bench.broken = True
    bench.watch.start()
    assert bench.looked.wait(10)
    bench.broken = False
    bench.looked.clear()
    assert bench.looked.wait(10)
    bench.watch.stop()
    bench.now += 10
    assert bench.watch.view().models
    assert "gearshift-frontier" not in {thread.name for thread in threading.enumerate()}


def test_one_that_was_never_started_can_be_stopped(busy: PrometheusTelemetry) -> None:
    Watched(busy).watch.stop()


def shown(telemetry: PrometheusTelemetry, *others: dict[str, Any]) -> Any:
    watch = FrontierWatch(telemetry.families)
    body = board(watch, [telemetry.beside(), *others], ready=True, grpc_port=8001)
    return json.loads(body)


def test_the_board_has_everything_that_the_page_shows(busy: PrometheusTelemetry) -> None:
    told = shown(busy, beside(b""), beside(json.dumps(busy.beside()).encode()))
    assert (told["ready"], told["grpc_port"]) == (True, 8001)
    a = told["models"][0]
    assert (a["name"], a["metric"], a["default_class"]) == ("a", "top1", "fast")
    assert a["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [3]}]
    large, small = a["variants"]
    assert (large["name"], large["version"], large["card"]) == ("large", 1, None)
    assert (small["p50_ms"], small["answered"]) == (3.0, 2)
    fast, slow, none = sorted(a["classes"], key=lambda each: -len(each["name"]))
    assert fast["total"] == {"served": 1, "late": 1, "shed": 1}
    assert (fast["budget_ms"], fast["min_accuracy"], fast["late"]) == (None, None, "drop")
    assert (slow["waiting"], slow["steps"]) == (2, [])
    assert none["total"] == {"invalid": 1}
    assert [refusal["outcome"] for refusal in told["refusals"]].count("shed") == 2


def test_a_variant_that_is_loaded_nowhere_is_on_the_board(busy: PrometheusTelemetry) -> None:
    places = [
        (Place("a", "large", "gpu0"), False),
        (Place("a", "large", "gpu1"), False),
        (Place("a", "small", "gpu0"), True),
        (Place("a", "small", "gpu1"), False),
    ]
    assert [each["resident"] for each in shown(busy)["models"][0]["variants"]] == [True, True]
    busy.registry.register(ResidencyCollector(lambda: Held({}, {}, places)))
    large, small = shown(busy)["models"][0]["variants"]
    assert (large["name"], large["resident"]) == ("large", False)
    assert (small["name"], small["resident"]) == ("small", True)


def test_cascades_are_on_the_board() -> None:
    model = make_model()
    cascade = Cascade(
        name="both", first="small", then="large", threshold=0.7, escalated=0.2, accuracy=0.9
    )
    fields = {name: getattr(model, name) for name in Model.__slots__}
    catalog = make_catalog(Model(**fields | {"cascades": (cascade,)}))
    (told,) = shown(PrometheusTelemetry(catalog))["models"]
    both = next(variant for variant in told["variants"] if variant["name"] == "both")
    assert both["cascade"]["then"] == "large"
    assert (both["accuracy"], both["p50_ms"]) == (0.9, None)
