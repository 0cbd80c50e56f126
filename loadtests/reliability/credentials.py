"""Every call without and with wrong credentials, tried at a real server: nobody may get in.

`make bench-credentials` writes build/reliability/credentials.md and .json, and what sslscan says of
both ports to tls_scan.json. Authorities, certificates and tokens are made anew for each run.
"""

from __future__ import annotations

import argparse
import json
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2

from access_file import AccessPlace
from certified import Certified, Issuer
from gearshift.access import new_token
from gearshift.core.rights import Group
from gearshift.http.app import PATHS
from gearshift.rpc.groups import GROUPS
from gearshift.v1 import gearshift_pb2
from onnx_models import TWO_VARIANTS, row_sum
from serving import Server, start, stop
from tools import tool

WITHIN = 10.0
"""Seconds for each call."""

OPEN_PATHS = ("/healthz", "/readyz")

REFUSED = ("UNAUTHENTICATED", "PERMISSION_DENIED", "401", "403")
"""What somebody hears who is not let in."""

NO_CONNECTION = "no connection"
"""What becomes of those whose handshake fails; of others it would show nothing."""

HANDSHAKE = ("plain text", "certificate of an unknown authority", "expired certificate")

METHODS = {
    f"/{service.full_name}/{method.name}": method
    for file in (service_pb2, gearshift_pb2, health_pb2, reflection_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


@dataclass(frozen=True)
class Attempt:
    """One call: with which credentials, to what, and what was answered."""

    credentials: str
    call: str
    answer: str

    @property
    def let_in(self) -> bool:
        if self.credentials.startswith(HANDSHAKE):
            return self.answer != NO_CONNECTION
        return self.answer not in REFUSED

    @property
    def welcome(self) -> bool:
        """Whether a sound one was let in."""
        return self.answer not in (*REFUSED, NO_CONNECTION)


class Place:
    """A repository, certificates, an issuer and an access file in `folder`; and the server that
    uses them, which asks for certificates without demanding one."""

    def __init__(self, folder: Path) -> None:
        self.certified = Certified(folder / "tls")
        self.issuer = Issuer(folder)
        self.issuer.publish()
        self.access = AccessPlace(folder / "access", jwks=self.issuer.jwks.absolute())
        self.audit = folder / "audit.jsonl"
        self.stranger = Certified(folder / "stranger")
        for variant in ("large", "small"):
            row_sum(folder / "repo" / "sums" / variant / "model.onnx")
        (folder / "repo" / "sums" / "model.toml").write_text(TWO_VARIANTS)
        self.options = (
            *("--repository", str(folder / "repo"), "--state-dir", str(folder / "state")),
            *("--tls-certificate", str(self.certified.certificate)),
            *("--tls-key", str(self.certified.key)),
            *("--tls-client-ca", str(self.certified.ca), "--set", "tls_client_required=false"),
            *("--access", str(self.access.path), "--set", f"audit_log={self.audit}"),
        )

    def headers(self) -> Iterator[tuple[str, str]]:
        """What is shown in the header `authorization`: what it is, and it."""
        yield "nothing", ""
        yield "a token that nobody has", f"Bearer {new_token()}"
        yield "half a token", f"Bearer {self.access.ops[:-1]}"
        yield "a token in other letters", f"Bearer {self.access.ops.swapcase()}"
        yield "the token without a scheme", self.access.ops
        yield "two tokens", f"Bearer {self.access.ops}, Bearer {self.access.ops}"
        yield "the name and no token", "Basic b3BzOg=="
        for what, token in self.issuer.wrong(Issuer(self.certified.folder, "second")).items():
            yield f"JWT: {what}", f"Bearer {token}"


def tried(place: Place, server: Server) -> list[Attempt]:
    """All that must be refused."""
    return [*_on_grpc(place, server.grpc), *_on_http(place, server.http)]


def sound(place: Place, server: Server) -> list[Attempt]:
    """The same calls with sound credentials, all let in: else nothing was shown."""
    root = place.certified.ca.read_bytes()
    found = []
    with _channel(server.grpc, grpc.ssl_channel_credentials(root)) as channel:
        for path in METHODS:
            if path.endswith("SystemSharedMemoryRegister"):
                continue  # With several processes it is off, for everybody.
            answer = _called(channel, path, f"Bearer {place.access.ops}")
            found.append(Attempt("token of a client that may all", path, answer))
    trusting = ssl.create_default_context(cafile=str(place.certified.ca))
    for path in PATHS:
        answer = _fetched(server.http, path, trusting, f"Bearer {place.access.ops}")
        found.append(Attempt("token of a client that may all", f"GET {path}", answer))
    return found


def _on_grpc(place: Place, address: str) -> Iterator[Attempt]:
    root = place.certified.ca.read_bytes()
    closed = [path for path in METHODS if GROUPS[path] is not Group.OPEN]
    control = [path for path in METHODS if GROUPS[path] is Group.CONTROL]
    with _channel(address, grpc.ssl_channel_credentials(root)) as channel:
        for what, shown in place.headers():
            for path in closed:
                yield Attempt(what, path, _called(channel, path, shown))
        for path in control:
            answer = _called(channel, path, f"Bearer {place.access.desk}")
            yield Attempt("token of a client that may not control", path, answer)
    certificates = {
        "certificate of an unknown authority": place.stranger.issue("robot.example"),
        "expired certificate": place.certified.issue("robot.example", valid=timedelta(hours=-1)),
        "certificate of nobody in the file": place.certified.issue("other.example"),
    }
    for what, (certificate, key) in certificates.items():
        shown = grpc.ssl_channel_credentials(root, key.read_bytes(), certificate.read_bytes())
        with _channel(address, shown) as channel:
            for path in closed:
                yield Attempt(what, path, _called(channel, path, ""))
    with _channel(address, None) as channel:
        for path in METHODS:
            answer = _called(channel, path, f"Bearer {place.access.ops}")
            yield Attempt("plain text, with a sound token", path, answer)


def _on_http(place: Place, url: str) -> Iterator[Attempt]:
    trusting = ssl.create_default_context(cafile=str(place.certified.ca))
    closed = [path for path in (*PATHS, "/page/main.js") if path not in OPEN_PATHS]
    shown = [*place.headers()]
    shown.append(("token of a client that may not see all", f"Bearer {place.access.desk}"))
    for what, header in shown:
        for path in closed:
            yield Attempt(what, f"GET {path}", _fetched(url, path, trusting, header))
    strange = ssl.create_default_context(cafile=str(place.certified.ca))
    strange.load_cert_chain(*place.stranger.issue("robot.example"))
    for path in (*PATHS,):
        answer = _fetched(url, path, strange, "")
        yield Attempt("certificate of an unknown authority", f"GET {path}", answer)
        answer = _fetched(url.replace("https:", "http:"), path, None, "")
        yield Attempt("plain text, with a sound token", f"GET {path}", answer)


def _channel(address: str, credentials: grpc.ChannelCredentials | None) -> Any:
    # Each with connections of its own: certificates belong to them.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    address = address.replace("127.0.0.1", "localhost")
    if credentials is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, credentials, options)


def _called(channel: grpc.Channel, path: str, authorization: str) -> str:
    """The name of the status. One empty message goes out, whatever the method."""
    method = METHODS[path]
    ways = "stream" if method.client_streaming else "unary"
    ways += "_stream" if method.server_streaming else "_unary"
    metadata = [("authorization", authorization)] if authorization else []
    sent: Any = iter([b""]) if method.client_streaming else b""
    try:
        answer = getattr(channel, ways)(path)(sent, metadata=metadata, timeout=WITHIN)
        if method.server_streaming:
            next(answer, None)
            answer.cancel()
    except grpc.RpcError as error:
        transport = error.code() is grpc.StatusCode.UNAVAILABLE and "connect" in error.details()
        return NO_CONNECTION if transport else str(error.code().name)
    return "OK"


def _fetched(url: str, path: str, tls: ssl.SSLContext | None, authorization: str) -> str:
    headers = {"Authorization": authorization} if authorization else {}
    request = urllib.request.Request(url.replace("127.0.0.1", "localhost") + path, headers=headers)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=tls or ssl.create_default_context()),
    )
    try:
        with opener.open(request, timeout=WITHIN) as response:
            return str(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return str(error.code)
    except (OSError, ValueError):
        return NO_CONNECTION
    except Exception as error:  # noqa: BLE001 - http.client's errors: bytes that are no HTTP
        return NO_CONNECTION if "BadStatusLine" in repr(error) else repr(error)


# --- the scan -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scan:
    """What sslscan says of one port, and what is wrong with that by today's defaults."""

    port: str
    protocols: Sequence[str]
    ciphers: Sequence[str]
    faults: Sequence[str]


def scanned(address: str, port: str) -> Scan:
    """By sslscan, which knows all that was ever spoken."""
    done = subprocess.run(
        [tool("sslscan"), "--xml=-", "--no-colour", address],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    told = ElementTree.fromstring(done.stdout).find("ssltest")
    assert told is not None, done.stdout
    protocols = [
        f"{each.get('type')} {each.get('version')}".replace("tls", "TLS").replace("ssl", "SSL")
        for each in told.findall("protocol")
        if each.get("enabled") == "1"
    ]
    ciphers = [
        f"{each.get('sslversion')} {each.get('cipher')}"
        for each in told.findall("cipher")
        if each.get("status") in ("accepted", "preferred")
    ]
    return Scan(port, protocols, ciphers, list(_faults(told, protocols, ciphers)))


def _faults(told: Any, protocols: Sequence[str], ciphers: Sequence[str]) -> Iterator[str]:
    if not protocols or not ciphers:
        yield "nothing was found, so that nothing was shown"
    for each in protocols:
        if each not in ("TLS 1.2", "TLS 1.3"):
            yield f"{each} is spoken"
    for each in ciphers:
        version, name = each.split(" ")
        modern = name.startswith("TLS_") if version == "TLSv1.3" else name.startswith("ECDHE-")
        if not modern or not ("GCM" in name or "POLY1305" in name.upper()):
            yield f"{each} is taken"
    for what in ("renegotiation", "compression"):
        found = told.find(what)
        # One whose OpenSSL has no compression itself says nothing of it.
        if found is not None and found.get("supported") != "0":
            yield f"there is {what}"
    for bleeding in told.findall("heartbleed"):
        if bleeding.get("vulnerable") != "0":
            yield f"heartbleed with {bleeding.get('sslversion')}"


# --- the page -------------------------------------------------------------------------------


def page(attempts: Sequence[Attempt], controls: Sequence[Attempt], scans: Sequence[Scan]) -> str:
    """Markdown: a row for each kind of credentials."""
    kinds: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        kinds.setdefault(attempt.credentials, []).append(attempt)
    let_in = sum(attempt.let_in for attempt in attempts)
    welcome = sum(attempt.welcome for attempt in controls)
    lines = [
        "# Wrong credentials",
        "",
        f"{len(attempts)} calls that must be refused, {let_in} let in. The same calls with a sound"
        f" token: {len(controls)}, {welcome} let in. Made by `make bench-credentials`.",
        "",
        "| shown | calls | let in | answers |",
        "| --- | --- | --- | --- |",
    ]
    for kind, found in kinds.items():
        answers = Counter(attempt.answer for attempt in found)
        told = ", ".join(f"{answer} ({count})" for answer, count in answers.most_common())
        inside = sum(attempt.let_in for attempt in found)
        lines.append(f"| {kind} | {len(found)} | {inside} | {told} |")
    for scan in scans:
        lines += [
            "",
            f"**TLS of the {scan.port} port**, scanned by sslscan: {', '.join(scan.protocols)};"
            f" {', '.join(scan.ciphers)}. {'; '.join(scan.faults) or 'Nothing is wrong with it'}.",
        ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/reliability"))
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    place = Place(out / "credentials")
    attempts: list[Attempt] = []
    controls: list[Attempt] = []
    scans: list[Scan] = []
    for processes in ("1", "2"):
        server = start(*place.options, "--processes", processes)
        try:
            attempts += tried(place, server)
            controls += sound(place, server)
            if processes == "1":
                scans.append(scanned(server.grpc, "gRPC"))
                scans.append(scanned(server.http.removeprefix("https://"), "HTTP"))
        finally:
            stop(server)
    (out / "credentials.md").write_text(page(attempts, controls, scans))
    told = {
        "attempts": [asdict(attempt) for attempt in attempts],
        "sound": [asdict(attempt) for attempt in controls],
        "scans": [asdict(scan) for scan in scans],
    }
    (out / "credentials.json").write_text(json.dumps(told, indent=1) + "\n")
    inside = [attempt for attempt in attempts if attempt.let_in]
    outside = [attempt for attempt in controls if not attempt.welcome]
    faults = [fault for scan in scans for fault in scan.faults]
    print(f"{len(attempts)} tried, {len(inside)} let in; {len(faults)} faults of TLS")
    for wrong in (*inside, *outside, *faults):
        print(wrong)
    return 1 if inside or outside or faults else 0


if __name__ == "__main__":
    sys.exit(main())
