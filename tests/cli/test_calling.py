"""How commands call a server that speaks TLS and asks who they are."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from access_file import AccessPlace
from certified import Certified
from gearshift.access import Guard, Tls, digest_of
from gearshift.access.tls import GRPC
from gearshift.app.settings import load_settings
from gearshift.cli.calling import TOKEN_VARIABLE, calling, own
from gearshift.cli.commands import app
from gearshift.errors import ConfigurationInvalid
from grpc_bench import GrpcBench

NOTHING = {"tls": False, "ca": None, "certificate": None, "key": None, "token_file": None}


@pytest.fixture(autouse=True)
def _nothing_in_the_environment(monkeypatch):
    for name in (TOKEN_VARIABLE, "GEARSHIFT_TOKEN_FILE", "GEARSHIFT_TLS_CA"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    return Certified(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return AccessPlace(tmp_path_factory.mktemp("access"))


@pytest.fixture(scope="module")
def address(certified, place):
    tls = Tls(certified.certificate, certified.key, certified.ca, required=False)
    bench = GrpcBench(tls=tls.context(GRPC), access=Guard(place.path))
    yield bench.address
    bench.stop()


def run(*arguments: str, **environment: str):
    return CliRunner().invoke(app, [str(each) for each in arguments], env=environment)


def test_a_token_and_its_hash_go_different_ways():
    done = run("token")
    token = done.stdout.strip()
    assert done.stderr.strip() == f'tokens_sha256 = ["{digest_of(token)}"]'


def test_explain_by_token_and_by_certificate(address, certified, place, tmp_path):
    asking = ("explain", "m", "--address", address, "--tls-ca", certified.ca)
    done = run(*asking)
    assert done.exit_code == 1
    assert "UNAUTHENTICATED" in done.stderr
    (tmp_path / "token").write_text(place.ops + "\n")
    assert "would answer" in run(*asking, "--token-file", tmp_path / "token").stdout
    assert "would answer" in run(*asking, GEARSHIFT_TOKEN=place.ops).stdout
    certificate, key = certified.issue("robot.example")
    shown = ("--client-certificate", certificate, "--client-key", key)
    assert "would answer" in run(*asking, *shown).stdout
    assert "is it running?" in run("explain", "m", "--address", address).stderr
    assert "is it running?" in run("explain", "m", "--address", address, "--tls").stderr


def test_health_needs_no_token_and_knows_its_own_certificate(address, certified):
    assert run("health", "--address", address, "--tls-ca", certified.ca).exit_code == 0
    host, port = address.split(":")
    only = certified.issue("only.example")
    environment = {
        "GEARSHIFT_HOST": host,
        "GEARSHIFT_GRPC_PORT": port,
        "GEARSHIFT_TLS_CERTIFICATE": str(certified.certificate),
        "GEARSHIFT_TLS_KEY": str(certified.key),
    }
    done = run("health", **environment)
    assert (done.exit_code, done.stdout) == (0, f"{address}: SERVING\n")
    # What is trusted is that certificate and no other.
    done = run("health", **environment | {"GEARSHIFT_TLS_CERTIFICATE": str(only[0])})
    assert done.exit_code == 1


def test_top_shows_its_token(address, certified, place):
    asking = ("top", "--once", "--address", address, "--tls-ca", str(certified.ca))
    assert "UNAUTHENTICATED" in run(*asking).stderr
    # It was let in; this bench has no figures.
    assert "UNAVAILABLE" in run(*asking, GEARSHIFT_TOKEN=place.ops).stderr


def test_a_token_does_not_travel_in_plain_text(monkeypatch, tmp_path):
    monkeypatch.setenv(TOKEN_VARIABLE, "gs_" + "x" * 43)
    for address in ("gears.example:8001", "10.0.0.7:8001", "dns:///gears:8001", "127.0.0.1.evil:1"):
        with pytest.raises(ConfigurationInvalid, match="plain text"):
            calling(address, **NOTHING)
        assert calling(address, **NOTHING | {"tls": True}).metadata
    for address in ("localhost:8001", "127.0.0.1:8001", "[::1]:8001", "unix:/x"):
        assert calling(address, **NOTHING).metadata


def test_what_cannot_be_read_or_used_is_told(tmp_path, monkeypatch):
    for wrong, told in (
        ({"certificate": tmp_path / "x"}, "go together"),
        ({"ca": tmp_path / "x"}, "authorities .*No such file"),
        ({"token_file": tmp_path / "x"}, "token file .*No such file"),
    ):
        with pytest.raises(ConfigurationInvalid, match=told):
            calling("localhost:1", **NOTHING | wrong)
    monkeypatch.setenv(TOKEN_VARIABLE, "zwölf\nzeilen")
    with pytest.raises(ConfigurationInvalid, match="is no token") as caught:
        calling("localhost:1", **NOTHING)
    assert "zeilen" not in str(caught.value)
    (tmp_path / "crt").write_text("nonsense")
    with pytest.raises(ConfigurationInvalid, match="no certificate in PEM"):
        own(load_settings(tls_certificate=tmp_path / "crt", tls_key=tmp_path / "crt"))
