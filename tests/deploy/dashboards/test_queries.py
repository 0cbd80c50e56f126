"""Every query of every panel, on a real Prometheus that scrapes a real server: none is empty."""

from __future__ import annotations

import json
import math
import time
from contextlib import ExitStack

import pytest
from deploy.dashboards.texts import HOME

from dashboard_scene import BESIDE, PATIENCE, drive, scene
from measured import measured

DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(HOME.glob("*.json"))}

ELSEWHERE = {
    "cost: Power",
    "cost: GPU time by variant",
    "cost: Power by domain",
    "cost: Energy per thousand answers",
    "on-call: Time until the certificate expires",
}
"""Panels of which a machine without a GPU and readable energy counters has nothing to show, nor a
server without TLS."""

SLOW = (
    "gearshift_shadow_accuracy",
    "gearshift_input_drift",
    'gearshift_variant_accuracy{source="live"}',
    "gearshift_cascade_accuracy_live",
    'sum (rate(gearshift_cascade_answers_total{stage="then"}[1m])) > 0',
    "sum by (result) (increase(gearshift_reloads_total[1h]))",
    'ALERTS{alertname="GearshiftTargetDown", alertstate="firing"}',
)
"""What is made now and then only, or from enough rows: traffic goes on until it is there."""


def queries():
    return [
        (f"{name}: {panel['title']}", target["expr"])
        for name, made in DASHBOARDS.items()
        for panel in made["panels"]
        for target in panel.get("targets", ())
    ]


def empty(place, known=frozenset()):
    """The panels with a query that has no series with a number in it. On a busy machine a scrape
    may fail, and what it would tell is gone until the next: asked again while there are others
    than `known`."""
    ends = time.monotonic() + PATIENCE
    while (found := _empty(place)).keys() - known and time.monotonic() < ends:
        time.sleep(0.5)
    return found


def _empty(place):
    found = {}
    for title, expression in queries():
        values = [float(series["value"][1]) for series in place.now(expression)]
        if not any(map(math.isfinite, values)):
            found[title] = place.filled(expression)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    with ExitStack() as stack:
        with measured(tmp_path_factory, folder / "state"):
            made = stack.enter_context(scene(folder))
        drive(made, *SLOW)
        yield made


def test_no_panel_is_empty(place):
    assert place.answered > 50
    found = empty(place, ELSEWHERE)
    assert found.keys() == ELSEWHERE, found


def test_what_this_machine_does_not_have_is_shown_where_there_is_some(place):
    place.beside.text = BESIDE
    place.until("rate(gearshift_energy_joules_total[1m]) > 0")
    assert empty(place) == {}


def test_variables_have_values_to_choose_from(place):
    asked = 0
    for made in DASHBOARDS.values():
        for variable in made["templating"]["list"]:
            if variable["type"] != "query":
                continue
            inner = variable["query"]["query"].removeprefix("label_values(").removesuffix(")")
            series, _, label = inner.rpartition(", ")
            assert label == variable["name"]
            values = place.ask(f"label/{label}/values", **{"match[]": place.filled(series)})
            assert values, variable
            asked += 1
    assert asked >= 4


def test_annotations_are_understood(place):
    for made in DASHBOARDS.values():
        for annotation in made["annotations"]["list"]:
            place.now(annotation["expr"])
