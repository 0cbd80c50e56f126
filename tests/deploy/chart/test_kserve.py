"""The runtime of KServe by KServe's own schemas, and as the server understands it."""

from __future__ import annotations

import pytest
import yaml

from charts import ROOT, judged, manifests
from gearshift.app.settings import Settings

FOLDER = ROOT / "deploy" / "kserve"
RUNTIME = FOLDER / "runtime.yaml"
SERVICE = FOLDER / "inference-service.yaml"


def read(file):
    return yaml.safe_load(file.read_text())


@pytest.fixture(scope="module")
def container():
    (found,) = read(RUNTIME)["spec"]["containers"]
    return found


def test_both_are_valid():
    code, said = judged(RUNTIME, SERVICE, since=37)
    assert code == 0, said


@pytest.mark.parametrize(
    ("file", "path", "wrong"),
    [
        (RUNTIME, ("spec",), "protocolVersion"),
        (RUNTIME, ("spec", "containers", 0), "imagePullPolice"),
        (RUNTIME, ("spec", "supportedModelFormats", 0), "autoselect"),
        (SERVICE, ("spec", "predictor", "model"), "storageURI"),
        (SERVICE, ("spec", "predictor", "autoScaling", "metrics", 0, "external", "metric"), "url"),
    ],
)
def test_words_that_kserve_does_not_know_are_found(tmp_path, file, path, wrong):
    spoilt = read(file)
    place = spoilt
    for step in path:
        place = place[step]
    place[wrong] = "x"
    (tmp_path / "spoilt.yaml").write_text(yaml.safe_dump(spoilt))
    code, said = judged(tmp_path / "spoilt.yaml", since=37)
    assert code == 1
    assert f"'{wrong}' was unexpected" in said


def test_the_service_asks_for_what_the_runtime_offers():
    runtime, model = read(RUNTIME), read(SERVICE)["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"] == "kserve-gearshift"
    formats = [each["name"] for each in runtime["spec"]["supportedModelFormats"]]
    assert model["modelFormat"]["name"] in formats
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]


def test_the_pod_lives_as_the_chart_s(container):
    ours = manifests().container()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe] == ours[probe]
    assert container["ports"] == [{"name": "h2c", "containerPort": 8001, "protocol": "TCP"}]
    same = container["securityContext"]
    assert ours["securityContext"].items() <= same.items()
    assert container["resources"] == ours["resources"]


def test_there_is_time_for_the_drain(container):
    env = {each["name"]: each.get("value") for each in container["env"]}
    (_, _, waits) = container["lifecycle"]["preStop"]["exec"]["command"]
    stop = float(waits.partition("(")[2].rstrip(")"))
    grace = read(SERVICE)["spec"]["predictor"]["terminationGracePeriodSeconds"]
    assert stop + float(env["GEARSHIFT_DRAIN_SECONDS"]) < grace


def test_its_options_are_the_server_s(container):
    command, *options = container["args"]
    assert command == "serve"
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert {name.removeprefix("--").replace("-", "_") for name in given} <= set(
        Settings.model_fields
    )
    assert given["--repository"] == "/mnt/models"
