"""Who may look at the page and the metrics, by which name, and over TLS."""

from __future__ import annotations

import base64
import http.client
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from access_file import AccessPlace
from certified import Certified
from gearshift.access import Guard, Tls, names_of
from gearshift.access.tls import HTTP
from gearshift.errors import RequestError
from gearshift.http import HttpServer, create_app
from gearshift.http.admission import host_of
from gearshift.http.app import PATHS

OPEN = ("/healthz", "/readyz")


class Taken:
    def __init__(self) -> None:
        self.denials: list[tuple[str, str, str]] = []

    def acted(self, client: str, peer: str, action: str, target: str, result: str) -> None:
        raise AssertionError("nothing is done over HTTP")

    def denied(self, client: str, peer: str, action: str, error: RequestError) -> None:
        self.denials.append((client, peer, action))


async def explained(query: Mapping[str, str]) -> tuple[int, bytes]:
    return 200, b"{}"


class Site:
    def __init__(self, *, tls: Tls | None = None, **options) -> None:
        self.audit = Taken()
        app = create_app(
            exposition=lambda accept: (b"up 1\n", "text/plain"),
            triton=lambda: (b"nv 1\n", "text/plain"),
            is_ready=lambda: True,
            board=lambda: b"{}",
            explain=explained,
            audit=self.audit,
            tls=tls is not None,
            **options,
        )
        context = None if tls is None else tls.context(HTTP)
        self.server = HttpServer(app, "127.0.0.1", 0, tls=context, names=names_of)
        self.server.start()

    def ask(
        self, path: str, method: str = "GET", tls: ssl.SSLContext | None = None, **headers: str
    ) -> http.client.HTTPResponse:
        port = self.server.port
        connection = (
            http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            if tls is None
            else http.client.HTTPSConnection("localhost", port, timeout=5, context=tls)
        )
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            response.read()
            return response
        finally:
            connection.close()


@pytest.fixture
def place(tmp_path: Path) -> AccessPlace:
    return AccessPlace(tmp_path / "access")


@pytest.fixture
def certified(tmp_path: Path) -> Certified:
    return Certified(tmp_path / "tls")


@pytest.fixture
def guarded(place: AccessPlace) -> Iterator[Site]:
    site = Site(access=Guard(place.path))
    yield site
    site.server.stop()


def basic(name: str, token: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{token}".encode()).decode()


def test_without_proof_only_probes_are_answered(guarded: Site) -> None:
    paths = (
        *PATHS,
        "/page/main.js",
        "/nothing",
        "//healthz",
        "/healthz/",
        "/Healthz",
        "/healthz/..",
    )
    for path in paths:
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            answer = guarded.ask(path, method)
            if path in OPEN:
                assert answer.status == (200 if method in ("GET", "HEAD") else 405)
            else:
                assert answer.status == 401, (path, method)
                assert answer.headers["WWW-Authenticate"].startswith('Basic realm="gearshift"')
                assert answer.headers["Content-Security-Policy"]
    assert ("anonymous", "127.0.0.1", "GET /metrics") in guarded.audit.denials


@pytest.mark.parametrize("wrong", ["Bearer nobody", "Basic xxx", "Bearer gs_" + "x" * 43, "x"])
def test_nobody_gets_in_with_a_wrong_one(guarded: Site, wrong: str) -> None:
    for path in PATHS:
        if path not in OPEN:
            assert guarded.ask(path, authorization=wrong).status == 401


def test_who_may_observe_all_models_looks_by_token_or_by_name_and_token(
    guarded: Site, place: AccessPlace
) -> None:
    for shown in (f"Bearer {place.ops}", basic("ops", place.ops)):
        for path in PATHS:
            assert guarded.ask(path, authorization=shown).status == 200, path
    # The page shows all models, which are not all this client's.
    answer = guarded.ask("/metrics", authorization=f"Bearer {place.desk}")
    assert answer.status == 403
    assert guarded.audit.denials[-1][0] == "desk"
    assert guarded.ask("/", authorization=basic("desk", place.ops)).status == 401


def test_over_tls_a_certificate_is_proof_as_well(place: AccessPlace, certified: Certified) -> None:
    tls = Tls(certified.certificate, certified.key, certified.ca, required=False)
    site = Site(access=Guard(place.path), tls=tls)
    try:
        caller = ssl.create_default_context(cafile=str(certified.ca))
        assert site.ask("/metrics", tls=caller).status == 401
        answer = site.ask("/metrics", tls=caller, authorization=f"Bearer {place.ops}")
        assert answer.status == 200
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        caller.load_cert_chain(*certified.issue("robot.example"))
        assert site.ask("/metrics", tls=caller).status == 200
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            site.ask("/healthz")
        assert site.ask("/healthz", tls=caller).status == 200
    finally:
        site.server.stop()


def test_a_name_that_somebody_lets_point_here_is_not_answered() -> None:
    """DNS rebinding: the page of another reads what is served on this machine."""
    site = Site(names=["gears.example"])
    try:
        for host in ("evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil"):
            assert site.ask("/metrics", host=host).status == 421, host
        for host in ("localhost", "LOCALHOST:9", "127.0.0.1:8002", "[::1]:8002", "Gears.example."):
            assert site.ask("/metrics", host=host).status == 200, host
    finally:
        site.server.stop()
    anywhere = Site()
    try:
        assert anywhere.ask("/metrics", host="prometheus.example").status == 200
        assert "Strict-Transport-Security" not in anywhere.ask("/").headers
    finally:
        anywhere.server.stop()


def test_the_name_in_a_host_header() -> None:
    assert host_of("a.b:80") == "a.b"
    assert host_of("[::1]:80") == "::1"
    assert host_of("[::1") == "::1"
    assert host_of("") == ""
