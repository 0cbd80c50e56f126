"""What each value changes, and that nothing else does."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from charts import CHART, ROOT, Manifests, Refused, manifests, render
from gearshift.app.entrance import check_exposure
from gearshift.app.settings import Settings

SECRET = {"tls": {"enabled": True, "secret": "given"}}


def refusal(values, *options):
    with pytest.raises(Refused) as refused:
        render(values, *options)
    return str(refused.value)


# --- the pod ---------------------------------------------------------------------------


def test_a_pod_is_allowed_everywhere():
    """The restricted Pod Security Standard, for every container of every pod."""
    everything = yaml.safe_load((ROOT / "tests/deploy/chart/values/everything.yaml").read_text())
    for values in ({}, everything):
        for pod in (manifests(values).pod, manifests(values).one("Pod")["spec"]):
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["runAsUser"] == 10001
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert pod["automountServiceAccountToken"] is False
            for container in pod["containers"] + pod.get("initContainers", []):
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }
                assert {"requests", "limits"} <= container["resources"].keys()


def test_probes_ask_for_what_the_server_says():
    container = manifests().container()
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["grpc"] == {"port": 8001}
    assert container["livenessProbe"]["grpc"] == {"port": 8001, "service": "live"}


def test_a_start_has_the_time_that_it_is_given():
    probe = manifests({"lifecycle": {"startupSeconds": 31}}).container()["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] in (31, 32)
    assert manifests().deployment["progressDeadlineSeconds"] > 600


def test_workers_follow_from_the_limit():
    assert manifests().env["GEARSHIFT_WORKERS"] == {
        "resourceFieldRef": {
            "containerName": "gearshift",
            "resource": "limits.cpu",
            "divisor": "1",
        }
    }
    assert manifests({"workers": 3}).env["GEARSHIFT_WORKERS"] == "3"


@pytest.mark.parametrize(
    ("values", "most"),
    [
        ({"processes": 3}, 2),
        ({"processes": 2, "workers": 1}, 1),
        ({"processes": 4, "resources": {"limits": {"cpu": "2500m"}}}, 3),
    ],
)
def test_processes_that_would_have_no_worker(values, most):
    said = refusal(values)
    assert "processes:" in said
    assert f"give at most {most}" in said


def test_settings_are_those_of_the_server():
    """As the server spells them, and none of those that the chart itself fills in."""
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    filled_in = {
        *("repository", "host", "grpc_port", "http_port", "state_dir", "workers", "processes"),
        *("drain_seconds", "feedback_url", "access", "quotas"),
        # TLS ends in the sidecar, because probes cannot speak it.
        *("tls_certificate", "tls_key", "tls_client_ca", "tls_client_required"),
        *("http_host", "http_tls", "insecure"),
    }
    known = set(schema["properties"]["settings"]["properties"])
    assert known == set(Settings.model_fields) - filled_in


def test_the_server_understands_what_it_is_told(monkeypatch):
    values = {
        "settings": {
            "feedback_rows": 10_000_000,
            "on_time_bonus": 0.25,
            "drift": False,
            "providers": ["CPUExecutionProvider", {"name": "cuda", "devices": [1]}],
            "device_memory_mib": {"cpu": 2048, "gpu0": 8192.5},
            "log_level": "debug",
        },
        "lifecycle": {"drainSeconds": 7.5},
        "workers": 5,
    }
    for name, value in manifests(values).env.items():
        monkeypatch.setenv(name, value)
    told = Settings()
    assert (told.feedback_rows, told.on_time_bonus, told.drift) == (10_000_000, 0.25, False)
    assert [each.name for each in told.providers] == ["cpu", "cuda"]
    assert (told.providers[1].devices, told.log_level) == ([1], "debug")
    assert told.device_memory_mib == {"cpu": 2048, "gpu0": 8192.5}
    assert (told.drain_seconds, told.workers, told.log_format) == (7.5, 5, "json")
    assert (told.host, told.grpc_port, str(told.state_dir)) == ("0.0.0.0", 8001, "/state")
    check_exposure(told)


def test_plain_text_is_said_where_it_is_spoken():
    assert manifests().env["GEARSHIFT_INSECURE"] == "true"
    secure = manifests({"tls": {"enabled": True, "secret": "given"}}).env
    assert "GEARSHIFT_INSECURE" not in secure
    assert secure["GEARSHIFT_HOST"] == "127.0.0.1"


def test_autoscaling_decides_how_many():
    assert manifests().deployment["replicas"] == 2
    assert "replicas" not in manifests({"autoscaling": {"enabled": True}}).deployment


def test_a_gpu():
    values = {"gpu": {"enabled": True, "count": 2}, "modelRepository": {"source": "image"}}
    values["modelRepository"]["image"] = {"reference": "models:1"}
    gpu = manifests(values)
    assert gpu.container()["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert gpu.container()["image"].endswith("-gpu")
    assert gpu.pod["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert "tolerations" not in manifests().pod
    assert "holds no models" in refusal({"gpu": {"enabled": True}})


def test_the_image_with_models_only_where_they_are_wanted():
    assert manifests().container()["image"].endswith("-demo")
    volume = {"source": "volume", "volume": {"source": {"hostPath": {"path": "/models"}}}}
    assert manifests({"modelRepository": volume}).container()["image"] == "gearshift:0.1.0"
    assert manifests({"image": {"tag": "mine"}}).container()["image"] == "gearshift:mine"


# --- how it ends -----------------------------------------------------------------------


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 120),
    st.floats(0, 3600, allow_nan=False).map(lambda x: round(x, 1)),
    st.integers(1, 60),
)
def test_nobody_is_killed_who_still_answers(stop, drain, margin):
    lifecycle = {"preStopSeconds": stop, "drainSeconds": drain, "marginSeconds": margin}
    rendered = Manifests(render({"lifecycle": lifecycle}))
    grace = rendered.pod["terminationGracePeriodSeconds"]
    assert grace == math.ceil(round(stop + drain + margin, 1))
    assert float(rendered.env["GEARSHIFT_DRAIN_SECONDS"]) == drain
    command = rendered.container()["lifecycle"]["preStop"]["exec"]["command"]
    assert command[:2] == ["python3", "-c"]
    assert command[3:] == [str(stop)]


def test_a_grace_period_that_is_too_short():
    said = refusal({"lifecycle": {"terminationGracePeriodSeconds": 54}})
    assert "lifecycle.terminationGracePeriodSeconds: 54 s" in said
    assert "give at least 55" in said
    longer = manifests({"lifecycle": {"terminationGracePeriodSeconds": 300}})
    assert longer.pod["terminationGracePeriodSeconds"] == 300


# --- models ----------------------------------------------------------------------------


def test_models_from_a_volume():
    claim = {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}}
    models = {"source": "volume", "volume": {"source": claim, "subPath": "a/b"}}
    rendered = manifests({"modelRepository": models})
    assert {"name": "models", **claim} in rendered.pod["volumes"]
    mount = {"name": "models", "mountPath": "/mnt/models", "readOnly": True, "subPath": "a/b"}
    assert mount in rendered.container()["volumeMounts"]
    assert rendered.env["GEARSHIFT_REPOSITORY"] == "/mnt/models"


def test_models_from_an_image_are_copied():
    image = {"reference": "models@sha256:1", "path": "/srv/"}
    rendered = manifests({"modelRepository": {"source": "image", "image": image}})
    assert rendered.container("models")["image"] == "models@sha256:1"
    assert rendered.container("models")["command"] == ["cp", "-R", "/srv/.", "/mnt/models/"]
    assert rendered.env["GEARSHIFT_REPOSITORY"] == "/mnt/models"


def test_models_in_an_image_are_mounted():
    models = {"source": "imageVolume", "image": {"reference": "models:1", "path": "/srv/models"}}
    rendered = manifests({"modelRepository": models}, "--kube-version", "1.33")
    assert rendered.env["GEARSHIFT_REPOSITORY"] == "/mnt/models/srv/models"
    assert "initContainers" not in rendered.pod
    said = refusal({"modelRepository": models}, "--kube-version", "1.30")
    assert "take `image`" in said


def test_models_from_an_object_store():
    store = {"path": ":s3:bucket/models", "env": {"RCLONE_S3_PROVIDER": "AWS"}, "secret": "keys"}
    rendered = manifests({"modelRepository": {"source": "objectStore", "objectStore": store}})
    copy = rendered.container("models")
    assert copy["args"][:3] == ["copy", ":s3:bucket/models", "/mnt/models"]
    assert {"name": "RCLONE_S3_PROVIDER", "value": "AWS"} in copy["env"]
    assert copy["envFrom"] == [{"secretRef": {"name": "keys"}}]


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("volume", "modelRepository.volume.source"),
        ("image", "modelRepository.image.reference"),
        ("imageVolume", "modelRepository.image.reference"),
        ("objectStore", "modelRepository.objectStore.path"),
    ],
)
def test_where_models_come_from_must_be_said(source, missing):
    said = refusal({"modelRepository": {"source": source}}, "--kube-version", "1.33")
    assert f"{missing}: needed with modelRepository.source {source}" in said


# --- who may call ----------------------------------------------------------------------


def test_files_of_who_may_call_are_mounted_whole():
    """Kubernetes never updates what is mounted by subPath, and the server reads them again."""
    values = {
        "access": {"secret": "who", "key": "clients.toml", "token": {"secret": "probe"}},
        "quotas": {"configMap": "rates"},
        "monitoring": {"podMonitor": {"enabled": True}},
    }
    rendered = manifests(values)
    assert rendered.env["GEARSHIFT_ACCESS"] == "/etc/gearshift/access/clients.toml"
    assert rendered.env["GEARSHIFT_QUOTAS"] == "/etc/gearshift/quotas/quotas.toml"
    mounts = {each["name"]: each for each in rendered.container()["volumeMounts"]}
    for name in ("access", "quotas"):
        path = f"/etc/gearshift/{name}"
        assert mounts[name] == {"name": name, "mountPath": path, "readOnly": True}
    volumes = {each["name"]: each for each in rendered.pod["volumes"]}
    assert volumes["access"]["secret"]["secretName"] == "who"
    assert volumes["quotas"]["configMap"]["name"] == "rates"
    token = {"name": "probe", "key": "token"}
    (endpoint,) = rendered.one("PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"] == {"credentials": token}
    (shown,) = rendered.one("Pod")["spec"]["containers"][0]["env"]
    assert shown == {"name": "GEARSHIFT_TOKEN", "valueFrom": {"secretKeyRef": token}}


def test_without_them_all_may_do_all():
    rendered = manifests({"monitoring": {"podMonitor": {"enabled": True}}})
    assert not {"GEARSHIFT_ACCESS", "GEARSHIFT_QUOTAS"} & set(rendered.env)
    (endpoint,) = rendered.one("PodMonitor")["spec"]["podMetricsEndpoints"]
    assert "authorization" not in endpoint
    assert "env" not in rendered.one("Pod")["spec"]["containers"][0]


def test_a_monitor_that_would_be_turned_away():
    values = {"access": {"secret": "who"}, "monitoring": {"serviceMonitor": {"enabled": True}}}
    assert "access.token.secret: needed" in refusal(values)


# --- how it is found -------------------------------------------------------------------


def test_clients_find_every_pod():
    headless = manifests().one("Service", "gs-gearshift-headless")["spec"]
    assert headless["clusterIP"] == "None"
    assert headless["ports"][0] == {
        "name": "grpc",
        "port": 8001,
        "targetPort": "grpc",
        "appProtocol": "kubernetes.io/h2c",
    }
    labels = manifests().deployment["template"]["metadata"]["labels"]
    assert headless["selector"].items() <= labels.items()
    # The pod of `helm test` is no server.
    assert not headless["selector"].items() <= manifests().one("Pod")["metadata"]["labels"].items()


def test_a_route_needs_a_gateway():
    assert "grpcRoute.parentRefs: needed" in refusal({"grpcRoute": {"enabled": True}})
    route = {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["a.example.com"]}
    spec = manifests({"grpcRoute": route, "service": {"grpcPort": 9000}}).one("GRPCRoute")["spec"]
    assert spec["rules"] == [{"backendRefs": [{"name": "gs-gearshift", "port": 9000}]}]
    assert "grpcRoute.backendTLS.caConfigMap: needed" in refusal({"grpcRoute": route, **SECRET})


def test_only_one_monitor_counts():
    both = {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}
    assert "counted twice" in refusal({"monitoring": both})
    monitor = manifests({"monitoring": {"serviceMonitor": {"enabled": True}}})
    selector = monitor.one("ServiceMonitor")["spec"]["selector"]["matchLabels"]
    found = [
        each["metadata"]["name"]
        for each in monitor.of("Service")
        if selector.items() <= each["metadata"]["labels"].items()
    ]
    assert found == ["gs-gearshift"]


def test_a_network_policy_lets_in_whom_it_should():
    ours = [{"namespaceSelector": {"matchLabels": {"team": "fraud"}}}]
    values = {"networkPolicy": {"enabled": True, "clients": ours}}
    clients, monitoring = manifests(values).one("NetworkPolicy")["spec"]["ingress"]
    assert clients["ports"] == [{"protocol": "TCP", "port": 8001}]
    assert clients["from"][0] == ours[0]
    test = clients["from"][1]["podSelector"]["matchLabels"]
    assert test.items() <= manifests(values).one("Pod")["metadata"]["labels"].items()
    assert monitoring["from"] == [{"podSelector": {}}]


# --- names -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "release", ["g", "g" * 53, "my-gearshift-with-a-long-name-for-a-release", "9-a"]
)
def test_names_fit(release):
    """helm allows 53 characters, Kubernetes 63 in names and labels."""
    for each in Manifests(render(SECRET, release=release)).all:
        assert len(each["metadata"]["name"]) <= 63
        for label in each["metadata"]["labels"].values():
            assert len(label) <= 63


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"replica": 1}, "'replica'"),
        ({"image": {"tagg": "x"}}, "'tagg'"),
        ({"settings": {"drain_seconds": 5}}, "drain_seconds"),
        ({"settings": {"shadow_share": 2}}, "shadow_share"),
        ({"lifecycle": {"drainSeconds": -1}}, "drainSeconds"),
        ({"modelRepository": {"source": "s3"}}, "source"),
        ({"monitoring": {"interval": "15"}}, "interval"),
        ({"image": {"digest": "sha256:1"}}, "digest"),
        ({"state": {"volume": {"emptyDir": {}, "hostPath": {"path": "/"}}}}, "volume"),
    ],
)
def test_values_that_do_not_exist_or_cannot_be(values, where):
    said = refusal(values)
    assert "values don't meet the specifications of the schema" in said
    assert where in said
