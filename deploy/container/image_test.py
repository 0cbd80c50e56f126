"""The images as they are built, run as a strict cluster runs them: `make image-test`.

Not part of `make test`: it needs root, buildah, runc and what `make image` made.
"""

from __future__ import annotations

import json
import os
import re
import select
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from deploy.container.running import BUILDAH, MIB, Container, Image, container, output, unpacked
from grpc_health.v1 import health_pb2, health_pb2_grpc

import gearshift

ROOT = Path(__file__).parents[2]
NAME = f"{os.environ.get('IMAGE', 'localhost/gearshift')}:{gearshift.__version__}"
READY = re.compile(r"gearshift is ready: gRPC on 0\.0\.0\.0:\d+, metrics on \S+\n")
READY_WITHIN = 240.0
UNPACKED_AT_MOST = 400 * MIB
COMPRESSED_AT_MOST = 132 * MIB
MEMORY = 512 * MIB
WORKERS = 2
CALLERS = 16
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

INSIDE = """
import json, os, pathlib, sys
def refused(path):
    try:
        open(path, "w").close()
    except OSError as error:
        return error.strerror
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
    "root": refused("/new"), "code": refused(sys.prefix + "/new"), "state": refused("/state/new"),
    "shared": refused("/dev/shm/new"),
    "server": pathlib.Path("/proc/1/cmdline").read_bytes().decode().split("\\0")[:-1],
}))
"""

# Every library of the image that another names, and every module of Python, is there.
LOADED = """
import importlib, pathlib
for module in sorted(pathlib.Path("/usr/lib/python3.13/lib-dynload").glob("*.so")):
    importlib.import_module(module.name.split(".")[0])
for module in ("psycopg", "ssl", "sqlite3", "zoneinfo",
               "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", "opentelemetry.sdk.trace"):
    importlib.import_module(module)
import zoneinfo, ssl
zoneinfo.ZoneInfo("Europe/Berlin")
print(ssl.create_default_context().cert_store_stats()["x509_ca"])
"""


@pytest.fixture(scope="module")
def server_image() -> Iterator[Image]:
    with unpacked(NAME) as image:
        yield image


@pytest.fixture(scope="module")
def demo_image() -> Iterator[Image]:
    with unpacked(f"{NAME}-demo") as image:
        yield image


def wait_until_ready(running: Container) -> None:
    readable, _, _ = select.select([running.process.stdout], [], [], READY_WITHIN)
    line = running.process.stdout.readline() if readable else ""
    assert READY.fullmatch(line), f"{line!r}; {(running.place / 'stderr').read_text()}"


def wait_for(what, within: float = 60.0) -> None:
    until = time.monotonic() + within
    while not what():
        assert time.monotonic() < until, f"not within {within:g} s"
        time.sleep(0.02)


def answers(running: Container, path: str) -> bool:
    try:
        return bool(running.page(path))
    except OSError:
        return False


def counted(running: Container, metric: str) -> float:
    lines = re.findall(rf"^{metric}(?:{{.*}})? (\S+)$", running.page("/metrics"), re.MULTILINE)
    return sum(map(float, lines))


def readings(rows: int) -> list[triton.InferInput]:
    pixels = triton.InferInput("pixels", [rows, 28, 28], "UINT8")
    pixels.set_data_from_numpy(np.zeros((rows, 28, 28), np.uint8))
    return [pixels]


def ask(client: triton.InferenceServerClient, rows: int = 1, **parameters: str | float) -> str:
    """The name of the variant that answered."""
    answer = client.infer("garment", readings(rows), parameters=parameters, client_timeout=120)
    return str(answer.get_response().parameters["variant"].string_param)


@pytest.mark.parametrize(("kind", "models"), [("", 0), ("-demo", 16 * MIB)])
def test_it_is_small(tmp_path, kind, models):
    output(BUILDAH, "push", "--quiet", NAME + kind, f"oci:{tmp_path}:it")
    compressed = sum(path.stat().st_size for path in (tmp_path / "blobs/sha256").iterdir())
    assert compressed < COMPRESSED_AT_MOST + models
    with unpacked(NAME + kind) as image:
        found = [path.lstat() for path in image.root.rglob("*")]
        assert sum(each.st_blocks * 512 for each in found) < UNPACKED_AT_MOST + models


def test_it_holds_nothing_to_break_in_with(server_image):
    programs = {path.name for path in server_image.root.glob("usr/*bin/*")}
    assert programs == {"python3", "python3.13"}
    assert list(server_image.root.glob("models/*")) == []
    writable = {
        str(path.relative_to(server_image.root))
        for path in server_image.root.rglob("*")
        if not path.is_symlink() and path.stat().st_mode & 0o6002
    }
    assert writable == {"tmp", "var/tmp", "var/lock", "state"}
    user = server_image.config["User"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "Kubernetes' runAsNonRoot needs a number"


def test_everything_can_be_loaded(server_image):
    program = ["-c", LOADED]
    with container(replaced(server_image, ["/usr/bin/python3", *program])) as running:
        told, _ = running.process.communicate(timeout=120)
        assert running.process.returncode == 0, (running.place / "stderr").read_text()
        assert int(told) > 100


@pytest.mark.parametrize("kind", ["", "-demo"])
def test_it_says_what_it_was_made_from(kind):
    with unpacked(NAME + kind) as image:
        labels = image.config["Labels"]
        revision = (image.root / "usr/local/share/gearshift/revision").read_text().strip()
    assert labels["org.opencontainers.image.version"] == gearshift.__version__
    assert labels["org.opencontainers.image.revision"] == revision
    assert revision == output("git", "-C", ROOT, "rev-parse", "--short", "HEAD")


def replaced(image: Image, command: list[str]) -> Image:
    return Image(image.name, image.root, image.config | {"Entrypoint": command, "Cmd": []})


def test_without_models_it_says_so(server_image):
    with container(server_image) as running:
        assert running.process.wait(60) == 1
        assert "/models" in (running.place / "stderr").read_text()


def test_the_life_of_a_container(demo_image):
    with container(demo_image, memory=MEMORY, GEARSHIFT_WORKERS=str(WORKERS)) as running:
        wait_for(lambda: answers(running, "/healthz"))
        assert running.execute("gearshift", "health").returncode == 1
        wait_until_ready(running)
        well = running.execute("gearshift", "health")
        assert (well.returncode, well.stderr) == (0, "")
        inside = running.execute("python3", "-c", INSIDE)
        assert inside.stderr == ""
        assert json.loads(inside.stdout) == {
            "user": [10001, 10001],
            "capabilities": 0,
            "root": "Read-only file system",
            "code": "Read-only file system",
            "state": None,
            "shared": None,
            "server": ["/usr/bin/python3.13", "/usr/local/bin/gearshift", "serve"],
        }
        with triton.InferenceServerClient(running.grpc) as client:
            assert ask(client, latency_budget_ms=1000, service_class="archive")
            assert running.most_memory() < MEMORY
            drain(running, client)
        log = (running.place / "stderr").read_text().splitlines()
        assert [json.loads(line)["event"] for line in log][-1] == "draining"


def drain(running: Container, client: triton.InferenceServerClient) -> None:
    """SIGTERM while many requests wait: each is answered, and then it ends with 0."""
    before = counted(running, "gearshift_requests_total")
    slow = partial(ask, client, 64, variant="teacher-int8", service_class="archive")

    def arrived() -> bool:
        waiting = counted(running, "gearshift_queue_depth")
        return waiting + counted(running, "gearshift_requests_total") - before >= CALLERS - WORKERS

    with (
        grpc.insecure_channel(running.grpc) as channel,
        ThreadPoolExecutor(CALLERS) as callers,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        asked: list[Future[str]] = [callers.submit(slow) for _ in range(CALLERS)]
        wait_for(arrived)
        running.signal("TERM")
        wait_for(lambda: health.Check(health_pb2.HealthCheckRequest()).status == NOT_SERVING)
        left = sum(not one.done() for one in asked)
        assert {one.result(120) for one in asked} == {"teacher-int8"}
    assert left > 0, "all were answered before it stopped: this shows nothing"
    assert running.process.wait(60) == 0


def test_sigterm_while_it_loads_ends_it_at_once(demo_image):
    with container(demo_image) as running:
        wait_for(lambda: answers(running, "/healthz"))
        running.signal("TERM")
        assert running.process.wait(20) == 143


def test_several_processes(demo_image):
    with container(demo_image, memory=2 * MEMORY, GEARSHIFT_PROCESSES="2") as running:
        wait_until_ready(running)
        with triton.InferenceServerClient(running.grpc) as client:
            assert ask(client, service_class="archive")
        running.signal("TERM")
        assert running.process.wait(60) == 0


def test_models_from_a_volume_and_from_an_image_made_of_it(server_image, tmp_path):
    repository = ROOT / "model_repo"
    with container(server_image, "check", models=repository) as running:
        told, _ = running.process.communicate(timeout=120)
        assert running.process.returncode == 0
        assert "/models: 5 model(s)" in told
    (tmp_path / "Containerfile").write_text(f"FROM {NAME}\nCOPY fraud /models/fraud\n")
    output(
        *(BUILDAH, "bud", "--quiet", "--isolation", "chroot", "--pull-never"),
        *("--tag", "localhost/gearshift-derived", "--file", tmp_path / "Containerfile"),
        repository,
    )
    try:
        with (
            unpacked("localhost/gearshift-derived") as derived,
            container(derived, "check") as running,
        ):
            told, _ = running.process.communicate(timeout=120)
            assert "/models: 1 model(s)" in told
    finally:
        output(BUILDAH, "rmi", "localhost/gearshift-derived")
