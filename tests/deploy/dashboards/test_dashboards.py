"""The committed dashboards are what the code makes, and say what people need to know."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import combinations

import pytest
import yaml
from deploy.dashboards.frame import RUNBOOKS
from deploy.dashboards.texts import HOME, texts

from serving import ROOT

DASHBOARDS = {name: json.loads(text) for name, text in texts().items()}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, made in DASHBOARDS.items()
    for panel in made["panels"]
    if panel["type"] != "row"
]


def expressions(panel):
    return [target["expr"] for target in panel["targets"]]


def test_what_is_committed_is_what_the_code_makes():
    committed = {path.name: path.read_text() for path in HOME.glob("*.json")}
    assert committed == texts(), "`make dashboards` writes them anew"


def test_they_are_the_same_each_time():
    assert texts() == texts()


def test_each_is_known_by_its_own_name_and_leads_to_the_others():
    assert len({made["uid"] for made in DASHBOARDS.values()}) == len(DASHBOARDS) == 4
    assert len({made["title"] for made in DASHBOARDS.values()}) == 4
    for made in DASHBOARDS.values():
        (others,) = (link for link in made["links"] if link["type"] == "dashboards")
        assert set(others["tags"]) <= set(made["tags"])
        assert others["includeVars"]
        assert others["keepTime"]


def test_every_variable_that_is_used_is_there_and_every_one_that_is_there_is_used():
    for name, made in DASHBOARDS.items():
        known = {variable["name"] for variable in made["templating"]["list"]}
        text = json.dumps(made["panels"]) + json.dumps(
            [variable.get("query") for variable in made["templating"]["list"]]
        )
        used = {found for found in re.findall(r"\$\{?(\w+)", text) if not found.startswith("__")}
        assert used == known, name


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows_in_which_unit(panel):
    assert len(panel["description"]) > 20
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert expressions(panel)
    letters = [target["refId"] for target in panel["targets"]]
    assert len(set(letters)) == len(letters)


def test_thresholds_rise():
    def thresholds(value):
        if isinstance(value, dict):
            if "steps" in value and "mode" in value:
                yield [step["value"] for step in value["steps"]]
            for each in value.values():
                yield from thresholds(each)
        elif isinstance(value, list):
            for each in value:
                yield from thresholds(each)

    found = [steps for made in DASHBOARDS.values() for steps in thresholds(made["panels"])]
    assert any(len(steps) > 1 for steps in found)
    for first, *others in found:
        assert first is None
        assert others == sorted(set(others))


def test_panels_do_not_overlap_and_fill_their_rows():
    for name, made in DASHBOARDS.items():
        places = [panel["gridPos"] for panel in made["panels"]]
        for one, other in combinations(places, 2):
            beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert beside or below, (name, one, other)
        widths: Counter[int] = Counter()
        for place in places:
            widths[place["y"]] += place["w"]
        assert set(widths.values()) == {24}, (name, widths)
        numbers = [panel["id"] for panel in made["panels"]]
        assert len(set(numbers)) == len(numbers)


def test_titles_of_one_dashboard_differ():
    for made in DASHBOARDS.values():
        titles = [panel["title"] for panel in made["panels"]]
        assert len(set(titles)) == len(titles)


def test_alerts_lead_to_their_runbooks():
    (panel,) = (p.values[0] for p in PANELS if p.values[0]["title"] == "Alerts, and since when")
    text = json.dumps(panel)
    assert f"{RUNBOOKS}/${{__value.raw}}.md" in text


def test_recorded_series_are_recorded():
    recorded = {
        rule["record"]
        for path in (ROOT / "deploy" / "chart" / "files" / "rules").glob("*.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    used = {
        name
        for panel in PANELS
        for expression in expressions(panel.values[0])
        for name in re.findall(r"\w+:gearshift_\w+:\w+", expression)
    }
    assert used
    assert used <= recorded
