"""What is wrong with where traces are to go is told before anything else is done."""

from __future__ import annotations

import pytest

from gearshift.app.server import serve
from gearshift.app.settings import load_settings
from gearshift.app.supervise import supervise
from gearshift.app.tracing import sending_traces
from gearshift.errors import ConfigurationInvalid


@pytest.fixture
def settings(tmp_path):
    return load_settings(repository=tmp_path / "none", otel_endpoint="collector:4317")


async def test_one_process_does_not_start(settings):
    with pytest.raises(ConfigurationInvalid, match="setting otel_endpoint: 'collector:4317'"):
        await serve(settings, lambda *_: None, lambda *_: None)


async def test_several_do_not_start(settings):
    with pytest.raises(ConfigurationInvalid, match="setting otel_endpoint: 'collector:4317'"):
        await supervise(settings, lambda *_: None)


async def test_without_an_endpoint_nothing_is_traced(settings, monkeypatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    async with sending_traces(settings.model_copy(update={"otel_endpoint": ""})) as tracing:
        assert tracing is None
