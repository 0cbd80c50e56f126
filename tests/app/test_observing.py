"""How a server begins to log and to trace."""

from __future__ import annotations

import pytest

from gearshift.app.observing import beginning
from gearshift.app.settings import load_settings
from gearshift.core.observability import Observability


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("level", "state"),
    [
        ("debug", Observability(verbose=1)),
        ("info", Observability()),
        ("warning", Observability(info=False)),
        ("error", Observability(info=False, warning=False)),
    ],
)
def test_levels_are_kinds_of_lines(tmp_path, level, state):
    found = beginning(load_settings(repository=tmp_path, log_level=level, trace_ratio=0.0))
    assert found.state == state
    assert not found.traceable


@pytest.mark.parametrize(("ratio", "rate"), [(1.0, 1), (0.01, 100), (0.3, 3), (0.0, 0)])
def test_a_share_is_told_as_one_of_so_many(tmp_path, monkeypatch, ratio, rate):
    settings = load_settings(
        repository=tmp_path, otel_endpoint="http://localhost:4317", trace_ratio=ratio
    )
    found = beginning(settings)
    assert (found.state.traced, found.state.rate, found.traceable) == (True, rate, True)
    assert not found.rate_fixed
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    assert beginning(settings).rate_fixed
