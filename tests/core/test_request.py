import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import make_model
from gearshift.core.catalog import Late, ServiceClass
from gearshift.core.request import KNOWN_PARAMETERS, TRITON_PARAMETERS, Request, ticket_for
from gearshift.errors import InvalidInput, VariantNotFound

CLASSES = (
    ServiceClass("realtime", budget=0.010, floor=0.5, weight=2.0),
    ServiceClass("archive", budget=5.0, late=Late.SERVE),
    ServiceClass("open"),
)
MODEL = make_model(classes=CLASSES)


def ticket(version="", remaining=math.inf, **parameters):
    request = Request(
        model="m", rows=2, version=version, parameters=parameters, remaining=remaining
    )
    return ticket_for(request, MODEL, 7, arrival=100.0)


def test_without_parameters_the_default_class_speaks():
    made = ticket()
    assert made.service_class == "realtime"
    assert (made.budget, made.floor, made.weight) == (pytest.approx(0.010), 0.5, 2.0)
    assert (made.id, made.rows, made.variant, made.late) == (7, 2, None, Late.DROP)


@pytest.mark.parametrize(
    ("remaining", "parameters", "budget"),
    [
        (math.inf, {"service_class": "archive"}, 5.0),
        (2.0, {"service_class": "archive"}, 2.0),
        (2.0, {"service_class": "archive", "latency_budget_ms": 50}, 0.050),
        (0.01, {"service_class": "archive", "latency_budget_ms": 50}, 0.010),
        (math.inf, {"service_class": "archive", "timeout": 30_000}, 0.030),
        (math.inf, {"service_class": "archive", "timeout": 0}, 5.0),
        (math.inf, {"service_class": "archive", "latency_budget_ms": "7.5"}, 0.0075),
        (math.inf, {"service_class": "archive", "latency_budget_ms": 7.5}, 0.0075),
        (9.2e18, {"service_class": "archive"}, 5.0),
        (9.2e18, {"service_class": "open"}, math.inf),
    ],
)
def test_the_smallest_budget_counts(remaining, parameters, budget):
    assert ticket(remaining=remaining, **parameters).budget == pytest.approx(budget)


def test_a_floor_can_be_raised_but_not_lowered():
    assert ticket(min_accuracy=0.9).floor == 0.9
    assert ticket(min_accuracy="0.9").floor == 0.9
    assert ticket(min_accuracy=0.1).floor == 0.5


@pytest.mark.parametrize("value", [0, -1, 0.0, "nan", "inf", -math.inf, math.nan, "soon", "", True])
def test_a_budget_that_is_no_positive_finite_number_is_refused(value):
    with pytest.raises(InvalidInput, match="latency_budget_ms"):
        ticket(latency_budget_ms=value)


def test_an_absurdly_large_budget_is_refused():
    with pytest.raises(InvalidInput, match="more than a week"):
        ticket(latency_budget_ms=1e12)


@pytest.mark.parametrize("value", [-0.1, "nan", math.inf, "high", False])
def test_a_floor_that_is_no_number_from_zero_is_refused(value):
    with pytest.raises(InvalidInput, match="min_accuracy"):
        ticket(min_accuracy=value)


@pytest.mark.parametrize("name", ["latency_budget", "min_acuracy", "triton_secret", "x"])
def test_a_misspelt_parameter_is_not_ignored(name):
    with pytest.raises(InvalidInput) as caught:
        ticket(**{name: 5})
    assert name in str(caught.value)
    assert all(known in str(caught.value) for known in KNOWN_PARAMETERS)


@pytest.mark.parametrize("name", [n for n in TRITON_PARAMETERS if n not in ("timeout", "priority")])
def test_tritons_own_parameters_pass(name):
    assert ticket(**{name: True}).budget == pytest.approx(0.010)


@pytest.mark.parametrize("name", ["timeout", "priority"])
@pytest.mark.parametrize("value", ["5", 1.5, True, -1])
def test_tritons_numbers_must_be_whole(name, value):
    with pytest.raises(InvalidInput, match=name):
        ticket(**{name: value})


LEVELS = make_model(
    classes=(
        ServiceClass("patient", budget=5.0, priority=5),
        ServiceClass("urgent", budget=0.010, priority=1),
        ServiceClass("open"),
    ),
)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({}, "patient"),
        ({"priority": 1}, "urgent"),
        ({"priority": 5}, "patient"),
        # As in Triton: 0 is the default, and so is what is not there.
        ({"priority": 0}, "patient"),
        ({"priority": 3}, "patient"),
        ({"priority": 2**63}, "patient"),
        ({"priority": 1, "service_class": "urgent"}, "urgent"),
        ({"priority": 0, "service_class": "open"}, "open"),
        ({"priority": 3, "service_class": "open"}, "open"),
    ],
)
def test_a_priority_stands_for_a_class(parameters, name):
    request = Request(model="m", rows=1, parameters=parameters)
    found = ticket_for(request, LEVELS, 7, arrival=0.0)
    assert found.service_class == name
    assert found.budget == pytest.approx(LEVELS.classes[name].budget)


def test_a_priority_and_the_name_of_another_class_are_a_mistake():
    request = Request(model="m", rows=1, parameters={"priority": 1, "service_class": "open"})
    with pytest.raises(InvalidInput, match="says 'open', but priority is that of class 'urgent'"):
        ticket_for(request, LEVELS, 7, arrival=0.0)


def test_where_no_class_has_a_priority_it_means_nothing():
    assert ticket(priority=1, service_class="archive").service_class == "archive"


def test_unknown_class_names_the_known_ones():
    with pytest.raises(InvalidInput, match=r"'vip'.*archive, open, realtime"):
        ticket(service_class="vip")
    with pytest.raises(InvalidInput, match="service_class"):
        ticket(service_class=3)


def test_pinning_by_number_and_by_name():
    assert ticket(version="2").variant == "small"
    assert ticket(variant="large").variant == "large"
    assert ticket(version="2", variant="small").variant == "small"


@pytest.mark.parametrize(
    ("version", "parameters", "error", "text"),
    [
        ("abc", {}, InvalidInput, "not a whole number"),
        ("-1", {}, InvalidInput, "not a whole number"),
        ("²", {}, InvalidInput, "not a whole number"),
        ("9", {}, VariantNotFound, r"1 \(large\), 2 \(small\)"),
        ("", {"variant": "huge"}, VariantNotFound, "huge"),
        ("", {"variant": 3}, InvalidInput, "not a string"),
        ("1", {"variant": "small"}, InvalidInput, "give one of the two"),
    ],
)
def test_a_wrong_pin_is_refused(version, parameters, error, text):
    with pytest.raises(error, match=text):
        ticket(version=version, **parameters)


@given(
    st.dictionaries(
        st.sampled_from([*KNOWN_PARAMETERS, *TRITON_PARAMETERS]) | st.text(max_size=8),
        st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        max_size=4,
    ),
    st.text(max_size=5),
    st.floats(0, 1e19),
)
def test_any_parameters_give_a_sound_ticket_or_a_clear_error(parameters, version, remaining):
    try:
        made = ticket_for(
            Request(model="m", rows=1, version=version, parameters=parameters, remaining=remaining),
            MODEL,
            1,
            arrival=0.0,
        )
    except (InvalidInput, VariantNotFound) as error:
        assert str(error)
    else:
        assert made.budget >= 0
        assert made.budget <= MODEL.classes[made.service_class].budget
        assert made.floor >= MODEL.classes[made.service_class].floor
