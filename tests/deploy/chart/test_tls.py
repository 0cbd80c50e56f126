"""TLS for real: the rendered configuration in a real Envoy, before a real server."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import grpc
import pytest
import tritonclient.grpc as triton
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from charts import manifests
from onnx_models import TWO_VARIANTS, row_sum
from serving import start, stop
from tools import tool

NAME = "gs-gearshift.ml.svc"
ENVOY = {"tls": {"enabled": True, "secret": "given"}}
WITHIN = 60


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def certificate(authority, folder):
    """A new key and certificate for NAME in `folder`, as in a secret of type kubernetes.io/tls."""
    folder.mkdir()
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    request = folder / "request"
    openssl(folder, "req", *key, "-keyout", "tls.key", "-subj", "/CN=x", "-out", str(request))
    names = folder / "names"
    names.write_text(f"subjectAltName=DNS:{NAME}")
    signed = ("-CA", str(authority / "ca.crt"), "-CAkey", str(authority / "ca.key"))
    openssl(
        folder,
        "x509",
        "-req",
        "-in",
        str(request),
        *signed,
        "-extfile",
        str(names),
        "-out",
        "tls.crt",
    )


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    folder = tmp_path_factory.mktemp("authority")
    new = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(folder, "req", *new, "-keyout", "ca.key", "-subj", "/CN=authority", "-out", "ca.crt")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    for variant in ("large", "small"):
        row_sum(root / "repo" / "sums" / variant / "model.onnx")
    (root / "repo" / "sums" / "model.toml").write_text(TWO_VARIANTS)
    running = start("--repository", str(root / "repo"), "--state-dir", str(root / "state"))
    yield running
    assert stop(running) == 0


def free_ports(count):
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def placed(node, ports, folders):
    """The configuration with the ports and folders of this test instead of the pod's."""
    if isinstance(node, dict):
        return {
            key: ports[value] if key == "port_value" else placed(value, ports, folders)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [placed(each, ports, folders) for each in node]
    for there, here in folders.items():
        if isinstance(node, str) and node.startswith(there + "/"):
            return node.replace(there, str(here), 1)
    return str(folders["/etc/envoy-tls"]) if node == "/etc/envoy-tls" else node


@pytest.fixture(scope="module")
def pod(server, authority, tmp_path_factory):
    """Envoy as the chart sets it up, on free ports: the pod's port -> the one here."""
    root = tmp_path_factory.mktemp("pod")
    # A volume of Kubernetes: a link to a folder that is replaced as a whole.
    secret = root / "tls"
    secret.mkdir()
    certificate(authority, secret / "..1")
    (secret / "..data").symlink_to("..1")
    for name in ("tls.crt", "tls.key"):
        (secret / name).symlink_to(f"..data/{name}")
    tls, http, health, admin = free_ports(4)
    ports = {8001: tls, 8002: http, 8003: health, 19901: admin}
    ports |= {18001: int(server.grpc.rpartition(":")[2])}
    ports |= {18002: int(server.http.rpartition(":")[2])}
    folders = {"/etc/envoy-tls": secret, "/etc/envoy": root}
    for name, text in manifests(ENVOY).one("ConfigMap")["data"].items():
        config = placed(yaml.safe_load(text), ports, folders)
        (root / name).write_text(yaml.safe_dump(config))
    arguments = [
        each.replace("/etc/envoy", str(root)).replace("$(CONCURRENCY)", "1")
        for each in manifests(ENVOY).container("envoy")["args"]
    ]
    log = (root / "log").open("w")
    process = subprocess.Popen([tool("envoy"), *arguments], stdout=log, stderr=log)
    try:
        answered(lambda: fetch(ports[8002], "/readyz")[0] == 200)
        yield ports, secret
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def answered(condition):
    end = time.monotonic() + WITHIN
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.05)
    pytest.fail("Envoy did not come to it")


def fetch(port, path, method="GET"):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def first_request(ports, authority, *name):
    """What `helm test` runs, by the rendered arguments."""
    arguments = manifests(ENVOY).one("Pod")["spec"]["containers"][0]["args"]
    assert arguments[2:] == [f"{NAME}:8001", "/etc/tls/ca.crt", NAME]
    return subprocess.run(
        [
            sys.executable,
            *arguments[:2],
            f"localhost:{ports[8001]}",
            str(authority / "ca.crt"),
            *name,
        ],
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
        env={**os.environ, "GRPC_VERBOSITY": "NONE"},
    )


def client(ports, authority):
    return triton.InferenceServerClient(
        f"localhost:{ports[8001]}",
        ssl=True,
        root_certificates=str(authority / "ca.crt"),
        channel_args=[("grpc.ssl_target_name_override", NAME)],
    )


def test_the_first_request_is_answered(pod, authority):
    ports, _ = pod
    told = first_request(ports, authority, NAME)
    assert told.stderr == ""
    assert told.stdout.startswith("sums answered: variant large, accuracy 0.9000")


def test_a_certificate_of_another_name_is_refused(pod, authority):
    ports, _ = pod
    assert first_request(ports, authority).returncode != 0


def test_budgets_and_errors_go_through(pod, authority):
    ports, _ = pod
    with client(ports, authority) as sums:
        tensor = triton.InferInput("x", [1, 3], "FP32")
        with pytest.raises(triton.InferenceServerException) as refused:
            sums.infer("sums", [tensor], parameters={"latency_budget": 5})
        assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
        assert "latency_budget_ms" in refused.value.message()


def test_without_tls_there_is_health_and_nothing_else(pod):
    ports, _ = pod
    with grpc.insecure_channel(f"127.0.0.1:{ports[8003]}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "live"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=10)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "gearshift_build_info" in fetch(ports[8002], "/metrics")[1]
    assert "nv_inference" in fetch(ports[8002], "/metrics/triton")[1]
    for path in ("/", "/frontier.json", "/explain"):
        assert fetch(ports[8002], path)[0] == 404


def served_certificate(ports):
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{ports[8001]}", "-servername", NAME],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0].strip()


def test_a_renewed_certificate_is_taken_without_a_restart(pod, authority):
    ports, secret = pod
    before = served_certificate(ports)
    assert before
    certificate(authority, secret / "..2")
    (secret / "..next").symlink_to("..2")
    (secret / "..next").rename(secret / "..data")
    shutil.rmtree(secret / "..1")
    answered(lambda: served_certificate(ports) not in ("", before))


def test_clients_are_sent_away_before_the_end(pod, authority):
    """preStop by its rendered command: calls go on being answered, connections are given up."""
    ports, _ = pod
    (*command, _, _) = manifests(ENVOY).container()["lifecycle"]["preStop"]["exec"]["command"]
    admin = f"127.0.0.1:{ports[19901]}"
    with client(ports, authority) as sums:
        assert sums.is_server_ready()
        subprocess.run([sys.executable, *command[1:], "0", admin], check=True, timeout=WITHIN)
        for _ in range(3):
            assert sums.is_server_ready()

        def given_up():
            stats = fetch(ports[19901], "/stats?filter=grpc.downstream_cx_drain_close")[1]
            return int(stats.rpartition(":")[2]) > 0

        answered(given_up)
    fetch(ports[19901], "/healthcheck/ok", "POST")
