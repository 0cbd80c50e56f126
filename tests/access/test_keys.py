"""Keys of an issuer: which are taken, when they are fetched, and that nobody waits."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from certified import Certified, Issuer
from gearshift.access import Tls, keys
from gearshift.access.jwts import verified
from gearshift.access.keys import FetchedKeys, read_keys
from gearshift.access.schema import Jwt
from gearshift.access.tls import HTTP
from gearshift.errors import NotReady, Unauthenticated


class IssuersServer:
    """An https server that tells `body`, or redirects, or fails."""

    def __init__(self, certified: Certified, body: bytes) -> None:
        self.body, self.status, self.asked = body, 200, 0
        self.location = ""
        self.again = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked += 1
                self.send_response(server.status)
                if server.location:
                    self.send_header("Location", server.location)
                self.end_headers()
                self.wfile.write(server.body)
                server.again.set()

            def log_message(self, *_: object) -> None:
                """Not to the test's output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        tls = Tls(certified.certificate, certified.key).context(HTTP)
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_port}/jwks.json"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def server(certified, issuer):
    made = IssuersServer(certified, issuer.jwks.read_bytes())
    yield made
    made.close()


def until(true: Callable[[], object]) -> None:
    waited = threading.Event()
    for _ in range(500):
        if true():
            return
        waited.wait(0.01)
    raise AssertionError("it did not come about")


def trusted(server: IssuersServer) -> Jwt:
    return Jwt(
        issuer="https://issuer.example",
        audience="gearshift",
        algorithms=["RS256"],
        jwks_url=server.url,
    )


def test_keys_are_fetched_and_a_new_one_is_fetched_when_it_is_needed(
    server, certified, issuer, tmp_path, monkeypatch
) -> None:
    fetched = FetchedKeys(server.url, certified.ca)
    try:
        until(lambda: fetched.find(issuer.kid))
        until(lambda: not fetched._wanted.is_set())
        assert verified(issuer.sign(), trusted(server), fetched).subject == "batch"
        # Who makes up names of keys does not make this server ask again and again.
        other = Issuer(tmp_path, "second")
        asked = server.asked
        for _ in range(5):
            with pytest.raises(Unauthenticated):
                verified(other.sign(), trusted(server), fetched)
        assert server.asked == asked
        # After a while it does, once; meanwhile nobody waits, and whoever asks may ask again.
        monkeypatch.setattr(keys, "RATHER_NOT", 0.0)
        server.body = json.dumps({"keys": [issuer.jwk, other.jwk]}).encode()
        with pytest.raises(NotReady, match="try again"):
            verified(other.sign(), trusted(server), fetched)
        until(lambda: fetched.find("second"))
        assert verified(other.sign(), trusted(server), fetched).subject == "batch"
        # While the issuer is out of order its keys hold, for a day.
        server.status = 500
        asked = server.asked
        assert fetched.coming()
        until(lambda: server.asked > asked and not fetched._wanted.is_set())
        assert fetched.find(issuer.kid) is not None
        monkeypatch.setattr(keys, "KEPT", 0.0)
        assert fetched.find(issuer.kid) is None
    finally:
        fetched.close()


@pytest.mark.parametrize("fault", ["redirect", "nonsense", "unknown authority"])
def test_an_issuer_that_cannot_be_believed_gives_no_keys(server, certified, issuer, fault) -> None:
    if fault == "redirect":
        server.status, server.location = 302, server.url
    if fault == "nonsense":
        server.body = b"[" * 100_000
    fetched = FetchedKeys(server.url, None if fault == "unknown authority" else certified.ca)
    try:
        until(lambda: not fetched._wanted.is_set())
        assert fetched.find(issuer.kid) is None
        # Nobody can say that a token is wrong, so that nobody says it; nor is anybody let in.
        with pytest.raises(NotReady):
            verified(issuer.sign(), trusted(server), fetched)
    finally:
        fetched.close()


def test_only_sound_public_keys_are_taken(issuer) -> None:
    weak = dict(issuer.jwk, kid="weak", n=issuer.jwk["n"][:100])
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"}
    for_secrecy = dict(issuer.jwk, kid="enc", use="enc")
    strange = {"kty": "strange", "kid": "strange"}
    told = {"keys": [weak, secret, for_secrecy, strange, 1, issuer.jwk]}
    assert list(read_keys(json.dumps(told).encode())) == [issuer.kid]
    for nothing in (b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": []}', b"\xff"):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
            read_keys(nothing)
