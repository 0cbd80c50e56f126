"""WatchFrontier through a real gRPC client."""

from __future__ import annotations

import time
from typing import Any

import grpc
import pytest

from gearshift.core.frontier import (
    ClassSnapshot,
    ClassView,
    ModelView,
    VariantSnapshot,
    VariantView,
    View,
)
from gearshift.v1 import gearshift_pb2 as pb
from gearshift.v1 import gearshift_pb2_grpc

LARGE = VariantSnapshot(
    name="large", accuracy=0.94, declared=0.95, live=0.9, low=0.85, high=0.95, labels=40,
    p50=0.002, p99=0.004, answered=9, artifact_bytes=1000,
)  # fmt: skip
SMALL = VariantSnapshot(name="small", accuracy=0.8, declared=0.8)


def class_view(name: str, attainment: float | None = None) -> ClassView:
    now = ClassSnapshot(name=name, waiting=3)
    mean = None if attainment is None else 0.9
    return ClassView(now, {"served": 4}, attainment, 2.5, mean, mean)


class Source:
    """What is told, changed by the test."""

    def __init__(self) -> None:
        self.asked = 0
        self.late = False

    async def __call__(self) -> View:
        self.asked += 1
        if self.late:
            raise TimeoutError
        model = ModelView(
            "m",
            (VariantView(LARGE, 3.0, 0.75), VariantView(SMALL, 1.0, 0.25)),
            (class_view("default", 0.5), class_view("archive"), class_view("", 0.1)),
        )
        return View(1_000.0 + self.asked, 60.0, (model, ModelView("other", (), ())))


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def bench(make_bench: Any, source: Source) -> Any:
    return make_bench(frontier=source)


@pytest.fixture
def watch(bench: Any) -> Any:
    with grpc.insecure_channel(bench.address) as channel:
        stub = gearshift_pb2_grpc.GearshiftStub(channel)

        def call(**fields: Any) -> Any:
            return stub.WatchFrontier(pb.WatchFrontierRequest(**fields), timeout=20)

        yield call


def test_it_tells_again_and_again_what_the_snapshot_says(watch: Any) -> None:
    looks = watch(interval_ms=200)
    first, second = next(looks), next(looks)
    assert (first.time, second.time) == (1_001.0, 1_002.0)
    assert first.window_seconds == 60.0
    model, other = first.models
    assert (model.name, model.metric, other.name) == ("m", "top1", "other")
    large, small = model.variants
    assert (large.name, large.version, large.artifact_bytes) == ("large", 1, 1000)
    assert (large.accuracy, large.declared_accuracy) == (0.94, 0.95)
    assert (large.live_accuracy, large.live_low, large.live_high) == (0.9, 0.85, 0.95)
    assert (large.labels, large.p50_ms, large.p99_ms) == (40, 2.0, 4.0)
    assert (large.rate, large.share) == (3.0, 0.75)
    assert (small.version, small.HasField("live_accuracy")) == (2, False)
    default, archive = model.classes
    assert (default.name, default.attainment, default.goodput) == ("default", 0.5, 2.5)
    assert (default.served_accuracy, default.accuracy_deficit, default.waiting) == (0.9, 0.9, 3)
    assert not archive.HasField("attainment")
    assert not archive.HasField("served_accuracy")
    looks.cancel()


def test_only_what_was_asked_for(watch: Any) -> None:
    looks = watch(models=["other", "other"])
    assert [model.name for model in next(looks).models] == ["other"]
    looks.cancel()


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"models": ["m", "nope"]}, grpc.StatusCode.NOT_FOUND, "there are: m, other"),
        ({"interval_ms": -1}, grpc.StatusCode.INVALID_ARGUMENT, "interval_ms is -1"),
    ],
)
def test_what_cannot_be_told_is_refused(
    watch: Any, fields: dict[str, Any], code: grpc.StatusCode, text: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        next(watch(**fields))
    assert caught.value.code() == code
    assert text in caught.value.details()


def test_no_oftener_than_makes_sense(watch: Any, source: Source) -> None:
    looks = watch(interval_ms=1)
    for _ in range(3):
        next(looks)
    looks.cancel()
    # Two pauses of 0.2 s at least: asked every millisecond it would be hundreds of times.
    assert source.asked <= 4


def test_it_ends_when_the_caller_leaves(watch: Any, source: Source, bench: Any) -> None:
    looks = watch(interval_ms=200)
    next(looks)
    looks.cancel()

    async def quiet() -> int:
        return source.asked

    def settled() -> bool:
        before = bench.run(quiet())
        time.sleep(0.5)
        return bench.run(quiet()) == before

    assert any(settled() for _ in range(20))


def test_processes_that_do_not_tell_are_unavailable(watch: Any, source: Source) -> None:
    source.late = True
    with pytest.raises(grpc.RpcError) as caught:
        next(watch())
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_server_that_stops_does_not_wait_for_watchers(watch: Any, bench: Any) -> None:
    looks = watch(interval_ms=3_600_000)
    next(looks)
    bench.run(bench.engine.drain(1.0))
    with pytest.raises(grpc.RpcError) as caught:
        next(looks)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "shutting down" in caught.value.details()
