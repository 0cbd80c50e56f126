"""The dashboards by the types of @grafana/schema: what is misspelt there Grafana leaves out,
without a word."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from deploy.dashboards.texts import texts

from serving import ROOT
from tools import BUILD

HERE = Path(__file__).parent / "schema"
INSTALLED = BUILD / "dashboards-schema" / "node_modules"


def complaints(folder: Path, dashboards: dict[str, str]) -> list[str]:
    """What the compiler says of each, where it is a `Made` of dashboard.ts."""
    assert INSTALLED.exists(), "Grafana's schema is not there: `make tools` puts it under build/"
    for name in ("dashboard.ts", "tsconfig.json"):
        shutil.copy(HERE / name, folder)
    (folder / "node_modules").symlink_to(INSTALLED)
    for name, text in dashboards.items():
        # As a literal: only of those the compiler refuses keys that the type does not know.
        literal = (
            f'import type {{ Made }} from "./dashboard.js";\nexport const made: Made = {text};'
        )
        (folder / f"{name}.made.ts").write_text(literal)
    done = subprocess.run(
        [INSTALLED / ".bin" / "tsc", "-p", folder, "--pretty", "false"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = done.stdout.splitlines()
    assert (done.returncode == 0) == (not found), done
    return found


def test_they_are_what_grafana_takes(tmp_path):
    made = {name.removesuffix(".json"): text for name, text in texts().items()}
    assert complaints(tmp_path, made) == []


def panel(made, kind):
    return next(each for each in made["panels"] if each["type"] == kind)


def misspelt_title(made):
    made["panels"][1]["titel"] = "x"


def text_for_a_number(made):
    made["panels"][1]["gridPos"]["w"] = "12"


def unknown_option(made):
    panel(made, "stat")["options"]["grafMode"] = "none"


def unknown_kind_of_reduction(made):
    panel(made, "stat")["options"]["reduceOptions"] = {"calc": ["mean"]}


def no_value_of_the_enum(made):
    panel(made, "timeseries")["fieldConfig"]["defaults"]["custom"]["drawStyle"] = "lines"


def misspelt_custom_field(made):
    panel(made, "xychart")["fieldConfig"]["defaults"]["custom"]["pointsize"] = {"fixed": 5}


def misspelt_override(made):
    panel(made, "table")["fieldConfig"]["overrides"][0]["properties"][0]["id"] = "units"


def misspelt_query(made):
    panel(made, "table")["targets"][0]["expression"] = "up"


def unknown_kind_of_panel(made):
    panel(made, "table")["type"] = "tabel"


def unknown_variable_type(made):
    made["templating"]["list"][0]["type"] = "datasources"


def misspelt_dashboard_key(made):
    made["tag"] = ["x"]


BREAKS = [
    misspelt_title,
    text_for_a_number,
    unknown_option,
    unknown_kind_of_reduction,
    no_value_of_the_enum,
    misspelt_custom_field,
    misspelt_override,
    misspelt_query,
    unknown_kind_of_panel,
    unknown_variable_type,
    misspelt_dashboard_key,
]


def test_each_mistake_is_found(tmp_path):
    """One file for each, so that the compiler has to start once only."""
    broken = {}
    for change in BREAKS:
        made = json.loads(texts()["tradeoff.json"])
        change(made)
        broken[change.__name__] = json.dumps(made)
    found = complaints(tmp_path, broken)
    told = {line.split(".made.ts")[0] for line in found if ".made.ts" in line}
    assert told == broken.keys()


@pytest.mark.parametrize("file", ["package.json", "package-lock.json"])
def test_exact_versions_are_installed_from_wherever_npm_gets_them(file):
    text = (ROOT / "tests" / "deploy" / "dashboards" / "schema" / file).read_text()
    assert "resolved" not in text
    wanted = json.loads((HERE / "package.json").read_text())["devDependencies"]
    assert all(version[0].isdigit() for version in wanted.values())
