"""Logs and traces over HTTP, in Triton's JSON."""

from __future__ import annotations

import pytest

from gearshift.app.observing import Here, Observed
from gearshift.core.observability import Beginning, Observability
from grpc_bench import GrpcBench
from rest_site import Site

LOGGING, TRACE = "/v2/logging", "/v2/trace/setting"


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr("gearshift.telemetry.show_logs", lambda **_: None)
    begun = Beginning(Observability(traced=True, rate=100), traceable=True)
    bench = GrpcBench(observing=Observed.alone(Here(begun)))
    made = Site(bench)
    yield made
    made.server.stop()
    bench.stop()


def test_traces(site):
    told = {
        "trace_level": ["TIMESTAMPS"],
        "trace_rate": "100",
        "trace_count": "-1",
        "trace_mode": "opentelemetry",
    }
    assert site.told(TRACE) == (200, told)
    assert site.told("/v2/models/m/trace/setting") == (200, told)
    changed = {**told, "trace_level": ["OFF"], "trace_rate": "7"}
    assert site.told(TRACE, {"trace_level": ["OFF"], "trace_rate": "7"}) == (200, changed)
    assert site.told(TRACE) == (200, changed)
    assert site.told(TRACE, {"trace_level": None, "trace_rate": None}) == (200, told)


def test_traces_of_one_model(site):
    mine, other = (f"/v2/models/{name}/trace/setting" for name in ("m", "other"))
    _, before = site.told(TRACE)
    own = {**before, "trace_rate": "5", "trace_level": ["OFF"]}
    assert site.told(mine, {"trace_rate": "5", "trace_level": ["OFF"]}) == (200, own)
    assert site.told(mine) == (200, own)
    assert site.told(TRACE) == site.told(other) == (200, before)
    assert site.told(mine, {"trace_rate": None, "trace_level": None}) == (200, before)


def test_logs(site):
    told = {
        "log_file": "",
        "log_info": True,
        "log_warning": True,
        "log_error": True,
        "log_verbose_level": 0,
        "log_format": "ISO8601",
    }
    assert site.told(LOGGING) == (200, told)
    changed = {**told, "log_info": False, "log_verbose_level": 3}
    assert site.told(LOGGING, {"log_info": False, "log_verbose_level": 3}) == (200, changed)
    assert site.told(LOGGING) == (200, changed)


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        (TRACE, {"trace_rate": 30}, 400, "trace_rate must be a text, a list of texts, or null"),
        (TRACE, {"trace_level": [1]}, 400, "a list of texts"),
        (TRACE, {"trace_level": "TENSORS"}, 501, "is not traced"),
        (TRACE, {"trace_rate": "\ud800"}, 400, "half a pair of surrogates"),
        (LOGGING, {"\ud800": True}, 400, "half a pair of surrogates"),
        (TRACE, {"bogus": "1"}, 400, "unknown trace setting 'bogus'"),
        ("/v2/models/nobody/trace/setting", None, 400, "no model 'nobody'"),
        ("/v2/models/nobody/trace/setting", {"trace_rate": "5"}, 400, "no model 'nobody'"),
        ("/v2/models/m/trace/setting", {"trace_rate": "x"}, 400, "'x' must be a whole number"),
        (LOGGING, {"log_info": None}, 400, "must be a truth value, a whole number from 0, or"),
        (LOGGING, {"log_verbose_level": -1}, 400, "a whole number from 0"),
        (LOGGING, {"log_info": "x"}, 400, "log_info must be true or false, got 'x'"),
        (LOGGING, {"log_file": "/tmp/x"}, 501, "standard error"),
        (LOGGING, b"[]", 400, "the request must be an object"),
    ],
)
def test_mistakes(site, path, body, status, text):
    found, answer = site.told(path, body)
    assert found == status
    assert text in answer["error"]
