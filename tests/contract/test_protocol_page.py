"""docs/protocol.md names every call that there is, and none else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2

from gearshift.http.rest import rest_routes
from gearshift.v1 import gearshift_pb2
from grpc_bench import GrpcBench
from rest_site import Site

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
FIRST = re.findall(r"^\| ([^|]+?) \|", PAGE, re.MULTILINE)
PATHS = [each for each in FIRST if each.startswith(("GET /", "POST /"))]
GONE = PATHS[-2:]


def served() -> list[str]:
    async def ask(asked):
        raise AssertionError(asked)

    return sorted(
        f"{method} {route.path}"
        for route in rest_routes(ask, 1)
        for method in route.methods - {"HEAD"}
    )


def test_every_rpc_is_there_once():
    services = [
        service
        for module in (service_pb2, gearshift_pb2, health_pb2, reflection_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    ]
    methods = [f"{each.full_name}/{method.name}" for each in services for method in each.methods]
    assert sorted(each for each in FIRST if "/" in each and each not in PATHS) == sorted(methods)


def test_every_path_is_there_once():
    assert sorted(each for each in PATHS if each not in GONE) == served()


@pytest.fixture(scope="module")
def site():
    bench = GrpcBench()
    made = Site(bench)
    yield made
    made.server.stop()
    bench.stop()


@pytest.mark.parametrize("told", GONE)
def test_what_is_said_not_to_be_served_is_not(site, told):
    method, path = told.split(" ")
    assert site.ask(path.replace("{model}", "m"), b"{}", method)[0].status == 404


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (Path(__file__).parents[2] / "docs" / target).exists(), target
