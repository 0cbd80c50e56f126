"""Quotas follow their file."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from builders import make_catalog, make_model
from gearshift.app import quotas
from gearshift.app.quotas import check_quotas, keeping_quotas, shared_table
from gearshift.engine import Doorkeeper
from gearshift.errors import ConfigurationInvalid
from gearshift.quotas import Table
from gearshift.telemetry import PrometheusTelemetry

FILE = "[clients.a]\nrows_per_second = {}\nburst = 1\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(quotas, "LOOK_EVERY", 0.001)
    path = tmp_path / "quotas.toml"
    path.write_text(FILE.format(0.001))
    return path


@pytest.fixture
def engine():
    clock = SimpleNamespace(now=lambda: 50.0)
    catalog = make_catalog(make_model())
    return SimpleNamespace(doorkeeper=Doorkeeper(clock), catalog=catalog)


def taken(engine) -> bool:
    return engine.doorkeeper.quotas.take("a", "m", "default", 1, 50.0) is None


async def told(lines, event) -> None:
    async with asyncio.timeout(20):
        while not any(line["event"] == event for line in lines):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_file_that_changes_is_read_anew_and_a_bad_one_changes_nothing(place, engine):
    telemetry = PrometheusTelemetry(engine.catalog)
    with capture_logs() as lines:
        async with keeping_quotas(SimpleNamespace(quotas=place), engine, telemetry):
            first = engine.doorkeeper.quotas
            assert taken(engine)
            assert not taken(engine)
            place.write_text("rubbish")
            await told(lines, "the quotas stay as they were")
            assert engine.doorkeeper.quotas is first
            place.unlink()
            await asyncio.sleep(0.01)
            place.write_text(FILE.format(1e6) + "[models.no.classes.c]\nrows_per_second = 1\n")
            await told(lines, "quotas read anew")
            # What was used up before is forgotten at the new rate, not at once.
            assert not taken(engine)
            assert engine.doorkeeper.quotas.take("a", "m", "default", 1, 2_000.0) is None
    assert any("no such model is served" in line.get("problem", "") for line in lines)


async def test_refusals_are_counted_by_clients_of_the_file(place, engine):
    telemetry = PrometheusTelemetry(engine.catalog)
    async with keeping_quotas(SimpleNamespace(quotas=place), engine, telemetry):
        engine.doorkeeper.refused["a"] += 3
        page, _ = telemetry.exposition()
    assert b'gearshift_quota_refused_total{client="a"} 3.0' in page
    assert b'gearshift_quota_refused_total{client=""} 0.0' in page
    assert b"gearshift_retries_refused_total 0.0" in page


async def test_without_a_file_there_are_none(engine):
    telemetry = PrometheusTelemetry(engine.catalog)
    async with keeping_quotas(SimpleNamespace(quotas=None), engine, telemetry):
        assert engine.doorkeeper.quotas is None
    with shared_table(SimpleNamespace(quotas=None)) as path:
        assert path == ""


async def test_the_table_of_several_processes_is_used(place, engine):
    telemetry = PrometheusTelemetry(engine.catalog)
    with shared_table(SimpleNamespace(quotas=place)) as path:
        other = Table.opened(path)
        async with keeping_quotas(SimpleNamespace(quotas=place), engine, telemetry, other):
            assert taken(engine)
        assert any(Table.opened(path).numbers[:10])


def test_a_wrong_file_is_told_before_anything_starts(place):
    place.write_text("[default]\n")
    with pytest.raises(ConfigurationInvalid, match="rows_per_second"):
        check_quotas(SimpleNamespace(quotas=place))
