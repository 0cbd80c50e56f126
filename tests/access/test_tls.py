"""TLS as it is spoken: handshakes in memory, against contexts of the standard library."""

from __future__ import annotations

import ssl
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from certified import Certified
from gearshift.access import Tls, names_of
from gearshift.access.tls import GRPC, HTTP
from gearshift.errors import ConfigurationInvalid


def client(certified: Certified, **settings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certified.ca))
    context.set_alpn_protocols(["h2", "http/1.1"])
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def shake(server: ssl.SSLContext, caller: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake; ssl.SSLError if there is none."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = server.wrap_bio(up, down, server_side=True)
    there = caller.wrap_bio(down, up, server_hostname="localhost")
    done: set[ssl.SSLObject] = set()
    for _ in range(20):
        for end in (there, here):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                continue
        if len(done) == 2:
            # What the server says of a client's certificate comes behind the handshake.
            with suppress(ssl.SSLWantReadError):
                there.read(1)
            return here, there
    raise AssertionError("no end")


def serial(end: ssl.SSLObject) -> str:
    told = end.getpeercert()
    assert told
    return str(told["serialNumber"])


def test_the_newest_version_and_no_compression(certified: Certified) -> None:
    tls = Tls(certified.certificate, certified.key)
    here, there = shake(tls.context(GRPC), client(certified))
    assert here.version() == "TLSv1.3"
    assert here.compression() is None
    assert there.selected_alpn_protocol() == "h2"
    _, there = shake(tls.context(HTTP), client(certified))
    assert there.selected_alpn_protocol() == "http/1.1"
    old = client(certified, maximum_version=ssl.TLSVersion.TLSv1_2)
    here, _ = shake(tls.context(GRPC), old)
    assert here.version() == "TLSv1.2"
    cipher = here.cipher()
    assert cipher is not None
    assert cipher[0].startswith("ECDHE-")


def test_nothing_weak_is_spoken(certified: Certified) -> None:
    tls = Tls(certified.certificate, certified.key)
    weak = client(certified, maximum_version=ssl.TLSVersion.TLSv1_2)
    weak.set_ciphers("AES128-SHA:AES256-GCM-SHA384:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384")
    with pytest.raises(ssl.SSLError):
        shake(tls.context(GRPC), weak)
    context = tls.context(GRPC)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    for option in (ssl.OP_NO_COMPRESSION, ssl.OP_NO_RENEGOTIATION, ssl.OP_NO_TICKET):
        assert context.options & option
    assert context.num_tickets == 0
    names = {each["name"] for each in context.get_ciphers() if each["protocol"] == "TLSv1.2"}
    assert names
    assert all(n.startswith("ECDHE-") and ("GCM" in n or "CHACHA20" in n) for n in names)


def test_certificates_are_exchanged_while_they_are_used(certified: Certified) -> None:
    tls = Tls(certified.certificate, certified.key)
    context, caller = tls.context(GRPC), client(certified)
    _, there = shake(context, caller)
    before, expiry = serial(there), tls.expiry
    newer = certified.issue("localhost", valid=timedelta(days=9))
    assert newer[0] != certified.certificate or serial(shake(context, caller)[1]) == before
    tls.reload()
    assert serial(shake(context, caller)[1]) != before
    assert tls.expiry > expiry


def test_a_pair_that_does_not_fit_changes_nothing(certified: Certified, tmp_path: Path) -> None:
    tls = Tls(certified.certificate, certified.key, certified.ca)
    context = tls.context(GRPC)
    certificate, key = certified.issue("other.example")
    caller = client(certified)
    caller.load_cert_chain(certificate, key)
    before = serial(shake(context, caller)[1])
    sound = {path: path.read_bytes() for path in tls.files}
    for path, text, told in (
        (certified.key, key.read_bytes(), "do not belong together"),
        (certified.key, b"nonsense", "no PEM"),
        (certified.certificate, b"nonsense", "no certificate in PEM"),
        (certified.ca, b"nonsense", "authority of clients"),
    ):
        path.write_bytes(text)
        with pytest.raises(ConfigurationInvalid, match=told):
            tls.reload()
        path.write_bytes(sound[path])
    certified.key.unlink()
    with pytest.raises(ConfigurationInvalid, match="No such file"):
        tls.reload()
    assert serial(shake(context, caller)[1]) == before


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(certified, tmp_path) -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    key = load_pem_private_key(certified.key.read_bytes(), None)
    form = PrivateFormat.PKCS8
    locked = tmp_path / "locked.key"
    locked.write_bytes(key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"x")))
    with pytest.raises(ConfigurationInvalid, match="has a passphrase"):
        Tls(certified.certificate, locked)


def test_clients_show_certificates_of_the_authority(certified, tmp_path) -> None:
    other = Certified(tmp_path / "other")
    strict = Tls(certified.certificate, certified.key, certified.ca)
    open_ = Tls(certified.certificate, certified.key, certified.ca, required=False)
    none = client(certified)
    for tls, welcome in ((strict, False), (open_, True)):
        if welcome:
            here, _ = shake(tls.context(GRPC), none)
            assert names_of(here.getpeercert()) == ()
        else:
            with pytest.raises(ssl.SSLError):
                shake(tls.context(GRPC), none)
        for issuing, valid in ((other, 7), (certified, -1)):
            wrong = client(certified)
            wrong.load_cert_chain(*issuing.issue("robot.example", valid=timedelta(days=valid)))
            with pytest.raises(ssl.SSLError):
                shake(tls.context(GRPC), wrong)
        right = client(certified)
        right.load_cert_chain(*certified.issue("robot.example", common_name="somebody"))
        here, _ = shake(tls.context(GRPC), right)
        assert names_of(here.getpeercert()) == ("robot.example",)


def test_the_authority_of_clients_is_exchanged_as_well(certified, tmp_path) -> None:
    other = Certified(tmp_path / "other")
    tls = Tls(certified.certificate, certified.key, certified.ca)
    context = tls.context(GRPC)
    caller = client(certified)
    caller.load_cert_chain(*other.issue("robot.example"))
    with pytest.raises(ssl.SSLError):
        shake(context, caller)
    certified.ca.write_bytes(other.ca.read_bytes())
    tls.reload()
    shake(context, caller)


def test_names_are_those_of_the_certificate_while_it_holds() -> None:
    told = {
        "subject": ((("commonName", "common"),),),
        "subjectAltName": (
            ("DNS", "dns.example"),
            ("URI", "spiffe://example/robot"),
            ("IP Address", "10.0.0.1"),
        ),
        "notAfter": "Jan  5 09:34:43 2030 GMT",
    }
    until = ssl.cert_time_to_seconds("Jan  5 09:34:43 2030 GMT")
    assert names_of(told, lambda: until) == ("spiffe://example/robot", "dns.example")
    assert names_of(told, lambda: until + 1.0) == ()
    assert names_of({"subject": told["subject"]}) == ("common",)
    assert names_of({}) == names_of(None) == ()
