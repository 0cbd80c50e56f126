import pytest

from builders import make_catalog, make_model, make_profiles, make_ticket
from gearshift.core.catalog import Late
from gearshift.core.router import Reason, fastest
from gearshift.core.router import reason as reason_of
from gearshift.errors import BudgetInfeasible, FloorUnreachable

MODEL = make_model(accuracies={"large": 0.95, "middle": 0.9, "small": 0.8})
PROFILES = make_profiles(
    make_catalog(MODEL), {"large": (0.010, 0), "middle": (0.004, 0), "small": (0.001, 0)}
).everywhere("m")


def fast(**wish):
    return fastest(make_ticket(**wish), MODEL, PROFILES).variant.name


def test_the_fastest_that_keeps_the_floor():
    assert fast() == "small"
    assert fast(floor=0.8) == "small"
    assert fast(floor=0.85) == "middle"
    assert fast(floor=0.95) == "large"
    assert fast(variant="large") == "large"


def test_a_floor_above_the_best_names_the_best():
    with pytest.raises(FloorUnreachable, match=r"0\.9900.*'large' with top1 0\.9500"):
        fast(floor=0.99)


def test_a_pinned_variant_below_the_floor_is_no_way_around_it():
    with pytest.raises(FloorUnreachable, match=r"'small'.*0\.8000, below the floor 0\.9000"):
        fast(variant="small", floor=0.9)


def test_a_budget_below_the_fastest_names_what_would_do():
    with pytest.raises(BudgetInfeasible, match=r"'small' with a p99 of 1 ms; allow at least that$"):
        fast(budget=0.0005)


def test_a_budget_that_only_the_floor_prevents_names_the_floor_that_would_do():
    with pytest.raises(BudgetInfeasible, match=r"10 ms.*or accept top1 0\.9000 \('middle'\)"):
        fast(budget=0.005, floor=0.95)


def test_a_late_answer_that_still_has_value_is_never_infeasible():
    assert fast(budget=0.0005, late=Late.SERVE) == "small"


@pytest.mark.parametrize(
    ("wish", "chosen", "reason"),
    [
        ({}, "large", Reason.MOST_ACCURATE),
        ({"budget": 0.005}, "middle", Reason.BUDGET),
        ({"budget": 0.005}, "small", Reason.LOAD),
        ({"budget": 1.0}, "middle", Reason.LOAD),
        ({"variant": "large"}, "large", Reason.PINNED),
    ],
)
def test_the_reason_says_what_an_idle_server_would_have_done(wish, chosen, reason):
    profile = next(p for p in PROFILES if p.variant.name == chosen)
    (better,) = {
        min(
            (p.p99(1) for p in PROFILES if p.variant.accuracy > profile.variant.accuracy), default=9
        )
    }
    assert reason_of(make_ticket(**wish), MODEL, profile, better) == reason
