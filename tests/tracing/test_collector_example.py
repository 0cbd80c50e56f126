"""The example of a collector names only what it defines, and only outcomes that there are."""

from __future__ import annotations

import yaml

from gearshift.errors import Outcome
from serving import ROOT


def test_its_pipeline_is_whole_and_keeps_what_was_not_served():
    config = yaml.safe_load((ROOT / "deploy" / "otel" / "collector.yaml").read_text())
    for pipeline in config["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) == set(config[kind])
    policies = config["processors"]["tail_sampling"]["policies"]
    (outcomes,) = [each["string_attribute"] for each in policies if "string_attribute" in each]
    assert outcomes["key"] == "gearshift.outcome"
    assert set(outcomes["values"]) == {str(outcome) for outcome in Outcome} - {"served"}
