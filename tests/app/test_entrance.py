"""What may listen where, and what the way in is made of."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from access_file import AccessPlace
from certified import Certified
from gearshift.app import entrance as entrance_module
from gearshift.app.entrance import check_exposure, make_entrance
from gearshift.app.settings import load_settings
from gearshift.errors import ConfigurationInvalid, Unauthenticated


@pytest.fixture
def certified(tmp_path):
    return Certified(tmp_path / "tls")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "gears.example", ""])
def test_other_machines_may_not_call_without_tls_unless_that_is_said(host, certified):
    for options, told in (
        ({"host": host}, "gRPC on"),
        ({"host": "127.0.0.1", "http_host": host or "*"}, "HTTP on"),
    ):
        settings = load_settings(**options)
        with pytest.raises(ConfigurationInvalid, match=told) as caught:
            check_exposure(settings)
        assert "--tls-certificate" in str(caught.value)
        assert "--insecure" in str(caught.value)
        check_exposure(load_settings(**options, insecure=True))
        tls = {"tls_certificate": certified.certificate, "tls_key": certified.key}
        check_exposure(load_settings(**options, **tls))
        with pytest.raises(ConfigurationInvalid, match="HTTP on"):
            check_exposure(load_settings(**options, **tls, http_tls=False))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_on_this_machine_all_is_open_as_ever(host):
    made = make_entrance(load_settings(host=host))
    assert (made.guard, made.grpc, made.http, made.watched) == (None, None, None, ())
    assert made.hosts == []


def test_http_may_be_for_this_machine_only_and_without_tls(certified):
    made = make_entrance(
        load_settings(
            host="0.0.0.0",
            http_host="127.0.0.1",
            http_tls=False,
            tls_certificate=certified.certificate,
            tls_key=certified.key,
        )
    )
    assert made.grpc is not None
    assert made.http is None
    assert made.hosts == []


def test_settings_that_do_not_fit_together(certified):
    for options, told in (
        ({"tls_certificate": certified.certificate}, "go together"),
        ({"tls_key": certified.key}, "go together"),
        ({"tls_client_ca": certified.ca}, "needs TLS"),
        ({"access": certified.ca}, "access file"),
        ({"tls_certificate": certified.ca, "tls_key": certified.key}, "do not belong together"),
    ):
        with pytest.raises(ConfigurationInvalid, match=told):
            make_entrance(load_settings(**options))


async def test_what_changes_is_read_anew_while_it_is_watched(
    certified, tmp_path, monkeypatch
) -> None:
    place = AccessPlace(tmp_path / "access")
    monkeypatch.setattr(entrance_module, "LOOK_EVERY", 0.01)
    made = make_entrance(
        load_settings(
            access=place.path,
            tls_certificate=certified.certificate,
            tls_key=certified.key,
            audit_log=tmp_path / "audit.jsonl",
        )
    )
    assert made.guard is not None
    assert made.hosts is None
    tls = made.metrics._tls
    assert tls is not None
    before = tls.expiry
    async with made.watching():
        newer = AccessPlace(tmp_path / "access")
        certified.issue("localhost", valid=timedelta(days=9))

        async def read() -> None:
            while True:
                await asyncio.sleep(0.01)
                try:
                    made.guard.admit(f"Bearer {newer.ops}", ())
                except Unauthenticated:
                    continue
                if tls.expiry != before:
                    return

        await asyncio.wait_for(read(), 20)
    made.reload()
    text = (tmp_path / "audit.jsonl").read_text()
    assert '"action": "reload", "target": "access file", "result": "OK"' in text
