"""Rules and dashboards reach the cluster word for word; every value is explained."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import yaml

from charts import CHART, ROOT, Manifests, render

ON = {"monitoring": {"rules": {"enabled": True}, "dashboards": {"enabled": True}}}


@pytest.fixture(scope="module")
def chart(tmp_path_factory):
    """The chart with rules and dashboards of its own."""
    copy = tmp_path_factory.mktemp("copy") / "chart"
    shutil.copytree(CHART, copy)
    for folder in ("rules", "dashboards"):
        shutil.rmtree(copy / "files" / folder, ignore_errors=True)
        (copy / "files" / folder).mkdir()
    return copy


def test_rules_keep_their_templates(chart):
    rule = {
        "alert": "A",
        "expr": 'up{job="x"} == 0',
        "annotations": {"summary": "{{ $labels.model }} at {{ $value | humanizePercentage }}"},
    }
    for name in ("a", "b"):
        groups = {"groups": [{"name": name, "rules": [rule]}]}
        (chart / "files" / "rules" / f"{name}.yml").write_text(yaml.safe_dump(groups))
    spec = Manifests(render(ON, chart=chart)).one("PrometheusRule")["spec"]
    assert [group["name"] for group in spec["groups"]] == ["a", "b"]
    assert spec["groups"][0]["rules"] == [rule]


def test_a_rule_file_that_cannot_be_read_says_which(chart):
    broken = chart / "files" / "rules" / "z.yml"
    broken.write_text("groups: [")
    try:
        with pytest.raises(Exception, match="files/rules/z.yml"):
            render(ON, chart=chart)
    finally:
        broken.unlink()


def test_objectives_of_classes_are_recorded():
    objective = {"model": "garment", "serviceClass": "archive", "attainment": 0.99}
    rules = {"enabled": True, "objectives": [objective]}
    spec = Manifests(render({"monitoring": {"rules": rules}})).one("PrometheusRule")["spec"]
    assert spec["groups"][-1]["rules"] == [
        {
            "record": "service_class:gearshift_attainment:objective_set",
            "expr": "vector(0.99)",
            "labels": {"model": "garment", "service_class": "archive"},
        }
    ]


def test_dashboards_keep_every_character(chart):
    text = json.dumps({"title": 'A "{{model}}" \\ über', "panels": []}, indent=2) + "\n"
    (chart / "files" / "dashboards" / "the_trade-off.json").write_text(text)
    maps = Manifests(render(ON, chart=chart))
    board = maps.one("ConfigMap", "gs-gearshift-the-trade-off")
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(board["data"]["the_trade-off.json"]) == json.loads(text)


def test_all_that_is_there_is_taken():
    rendered = Manifests(render(ON))
    groups = [
        group["name"]
        for file in sorted((CHART / "files" / "rules").glob("*.yml"))
        for group in yaml.safe_load(file.read_text())["groups"]
    ]
    assert [g["name"] for g in rendered.one("PrometheusRule")["spec"]["groups"] or []] == groups
    boards = {each.name for each in (CHART / "files" / "dashboards").glob("*.json")}
    assert {name for each in rendered.of("ConfigMap") for name in each["data"]} == boards


def leaves(schema, path=()):
    """The paths of the values that the schema knows."""
    for name, each in schema["properties"].items():
        if each.get("properties"):
            yield from leaves(each, (*path, name))
        elif name != "global":
            yield ".".join((*path, name))


def test_every_value_has_a_default_and_stands_in_the_table():
    """In values.yaml and in the README; optional settings of the server only in the README."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    text = (ROOT / "deploy" / "README.md").read_text().partition("## Values")[2]
    table = set(re.findall(r"^\| `([\w.]+)` \|", text, re.M))
    known = set(leaves(schema))
    assert {path for path in known if path.startswith("resources.")} == set()
    for path in known - table:
        assert path.startswith(("settings.", "autoscaling.")), f"{path} is not in the table"
    for path in {each for each in known if not each.startswith("settings.")}:
        found = values
        for part in path.split("."):
            if found == {}:
                break  # an object that may be left out whole
            assert part in found, f"{path} has no default in values.yaml"
            found = found[part]
    unknown = {path for path in table - known if not path.startswith("autoscaling.")}
    assert unknown == set()
