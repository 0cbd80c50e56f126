import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import make_catalog, make_model, make_profiles, make_variant
from gearshift.core.profile import LatencyPoint, Profile

VARIANT = make_variant("v", 1, 0.9)


def profile(*points: tuple[int, float, float], max_batch: int = 8) -> Profile:
    return Profile(VARIANT, "cpu", [LatencyPoint(*p) for p in points], max_batch)


def test_between_two_points_latency_is_linear():
    measured = profile((1, 1.0, 2.0), (5, 3.0, 6.0))
    assert measured.p50(3) == pytest.approx(2.0)
    assert measured.p99(3) == pytest.approx(4.0)


def test_beyond_the_last_point_a_row_costs_what_it_cost_there():
    assert profile((1, 1.0, 1.0), (4, 2.0, 4.0)).p99(8) == pytest.approx(8.0)


def test_a_measured_dip_is_noise():
    measured = profile((1, 5.0, 5.0), (2, 3.0, 3.0), (8, 6.0, 6.0))
    assert measured.p50(2) == 5.0


def test_p99_is_never_below_p50():
    assert profile((1, 3.0, 1.0)).p99(1) == 3.0


def test_efficient_batch_is_the_smallest_that_wastes_little():
    steep = profile((1, 1.0, 1.0), (8, 8.0, 8.0))
    flat = profile((1, 1.0, 1.0), (8, 1.0, 1.0))
    assert (steep.efficient_batch, steep.row_cost) == (1, 1.0)
    assert (flat.efficient_batch, flat.row_cost) == (8, 1 / 8)


@given(
    st.dictionaries(
        st.integers(1, 64), st.floats(1e-6, 10, allow_nan=False), min_size=1, max_size=8
    ),
    st.integers(1, 64),
)
def test_latency_never_falls_as_the_batch_grows(points, max_batch):
    measured = profile(*((b, s, s) for b, s in points.items()), max_batch=max_batch)
    table = [measured.p99(rows) for rows in range(1, max_batch + 1)]
    assert table == sorted(table)
    assert 1 <= measured.efficient_batch <= max_batch


def test_a_profile_without_points_is_refused():
    with pytest.raises(ValueError, match="needs a point"):
        Profile(VARIANT, "cpu", [], 8)


def test_profiles_are_ordered_by_accuracy_and_known_by_device():
    catalog = make_catalog(make_model(accuracies={"small": 0.8, "large": 0.9}))
    profiles = make_profiles(catalog, {"small": (0, 1), "large": (0, 2)}, device="gpu")
    assert [p.variant.name for p in profiles.on("m", "gpu")] == ["large", "small"]
    assert profiles.on("m", "cpu") == ()
    assert len(profiles.everywhere("m")) == 2
