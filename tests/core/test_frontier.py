"""Rates, shares and attainment between two moments; the history; what cascades add."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.catalog import Cascade
from gearshift.core.frontier import (
    KEPT,
    STEP,
    WINDOW,
    ClassSnapshot,
    History,
    ModelSnapshot,
    Snapshot,
    VariantSnapshot,
    View,
    between,
    packed,
    unpacked,
    with_cascades,
)

MINUTES = (KEPT - 1) * STEP


def moment(
    at: float, served: int = 0, late: int = 0, shed: int = 0, large: int = 0, waiting: int = 0
) -> Snapshot:
    """Model `m`: of `served + late` answers `large` came from the variant of 0.9, the others
    from that of 0.8."""
    answered = served + late
    small = answered - large
    variants = [
        VariantSnapshot(name="small", accuracy=0.8, declared=0.8, answered=small, p50=0.001),
        VariantSnapshot(name="large", accuracy=0.9, declared=0.9, answered=large, p50=0.010),
    ]
    default = ClassSnapshot(
        name="default",
        ended={"served": served, "late": late, "shed": shed},
        answered=answered,
        accuracy=large * 0.9 + small * 0.8,
        deficit=small * 0.1,
        waiting=waiting,
    )
    model = ModelSnapshot({v.name: v for v in variants}, {"default": default})
    return Snapshot(at, 1_000.0 + at, {"m": model})


def test_what_happened_between_two_moments() -> None:
    view = between(moment(10.0, served=100, large=100), moment(20.0, 160, 20, 20, 110, waiting=7))
    assert (view.time, view.window) == (1_020.0, 10.0)
    (model,) = view.models
    large, small = model.variants
    assert [large.now.name, small.now.name] == ["large", "small"]
    assert (large.rate, small.rate) == (1.0, 7.0)
    assert (large.share, small.share) == (0.125, 0.875)
    (default,) = model.classes
    assert default.ended == {"served": 60, "late": 20, "shed": 20}
    assert (default.attainment, default.goodput) == (0.6, 6.0)
    assert default.served_accuracy == pytest.approx((10 * 0.9 + 70 * 0.8) / 80)
    assert default.deficit == pytest.approx(70 * 0.1 / 80)
    assert default.now.waiting == 7


def test_without_requests_nothing_is_said() -> None:
    for seconds in (0.0, 10.0):
        (model,) = between(moment(0.0, served=5), moment(seconds, served=5)).models
        (default,) = model.classes
        assert default.attainment is default.served_accuracy is default.deficit is None
        assert default.goodput == 0.0
        assert [variant.share for variant in model.variants] == [0.0, 0.0]


def test_the_history_looks_back_a_window_and_no_further() -> None:
    history = History()
    assert history.view() == View(0.0, 0.0, ())
    served = 0
    for step in range(200):
        served += 10
        history.add(moment(step * STEP, served=served))
        view = history.view()
        assert view.window == min(step * STEP, WINDOW)
        (model,) = view.models
        if step:
            assert model.classes[0].goodput == pytest.approx(10 / STEP)
    steps = history.steps("m", "default")
    assert len(steps) == KEPT - 1
    assert {(each.attainment, each.rate) for each in steps} == {(1.0, 10 / STEP)}
    assert history.steps("m", "unknown") == history.steps("unknown", "default") == []


def test_the_newest_is_shown_also_between_two_steps() -> None:
    history = History()
    history.add(moment(0.0))
    for tenth in range(1, 30):
        history.add(moment(tenth / 10, served=tenth))
    assert history.steps("m", "default") == []
    assert history.view().window == pytest.approx(2.9)
    assert history.view().models[0].classes[0].now.ended["served"] == 29


counts = st.integers(0, 1_000)


@given(st.lists(st.tuples(counts, counts, counts, st.floats(0.1, 100)), min_size=1, max_size=80))
def test_shares_and_means_stay_in_their_bounds(steps: list[tuple[int, int, int, float]]) -> None:
    history, at, served, late, shed, large = History(), 0.0, 0, 0, 0, 0
    for more_served, more_late, more_shed, seconds in steps:
        at += seconds
        served, late, shed = served + more_served, late + more_late, shed + more_shed
        large += (more_served + more_late) // 3
        history.add(moment(at, served, late, shed, large))
        view = history.view()
        assert 0 <= view.window <= MINUTES * 100
        (model,) = view.models
        total = sum(variant.share for variant in model.variants)
        assert total == 0 or total == pytest.approx(1)
        for each in model.classes:
            assert each.attainment is None or 0 <= each.attainment <= 1
            assert each.goodput >= 0
            assert each.served_accuracy is None or 0.8 - 1e-9 <= each.served_accuracy <= 0.9 + 1e-9
            assert each.deficit is None or 0 <= each.deficit <= 0.1 + 1e-9
        assert unpacked(packed(view)) == view


def test_counts_that_fall_are_not_negative_traffic() -> None:
    (model,) = between(moment(0.0, served=50), moment(10.0, served=20)).models
    assert all(variant.rate == 0 for variant in model.variants)
    assert model.classes[0].attainment is None


def test_a_cascade_stands_where_its_parts_take_it() -> None:
    cascade = Cascade(
        name="both", first="small", then="large", threshold=0.7, escalated=0.2, accuracy=0.88
    )
    (model,) = between(moment(0.0), moment(10.0)).models
    shown = with_cascades(model, [cascade])
    assert [variant.now.name for variant in shown.variants] == ["large", "both", "small"]
    both = shown.variants[1].now
    assert both.p50 is not None
    assert math.isclose(both.p50, 0.001 + 0.2 * 0.010)
    assert both.p99 is None
    assert both.accuracy == 0.88
    assert with_cascades(shown, [cascade]) == shown
    lost = Cascade(name="x", first="small", then="no", threshold=0, escalated=0, accuracy=0)
    assert with_cascades(model, [lost]) == model
