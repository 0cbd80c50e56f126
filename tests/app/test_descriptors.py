from __future__ import annotations

import resource

from structlog.testing import capture_logs

from gearshift.app import descriptors
from gearshift.app.settings import load_settings


def test_a_server_holds_no_more_connections_than_it_can_have_files(monkeypatch):
    monkeypatch.setattr(descriptors, "raise_limit", lambda: 1_500)
    settings = load_settings(max_http_connections=100, max_shared_memory_regions=10)
    with capture_logs() as logs:
        usage = descriptors.within_descriptors(settings)
    assert 1_000 < usage.limits.max_connections < 1_500 - 110
    assert logs[0]["held"] == usage.limits.max_connections
    assert "ulimit -n" in logs[0]["event"]


def test_where_there_are_enough_files_nothing_is_said(monkeypatch):
    monkeypatch.setattr(descriptors, "raise_limit", lambda: 100_000)
    with capture_logs() as logs:
        usage = descriptors.within_descriptors(load_settings())
    assert usage.limits.max_connections == load_settings().max_connections
    assert not logs


def test_the_limit_is_raised_as_far_as_it_can_be():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        assert descriptors.raise_limit() >= min(hard, 512)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
