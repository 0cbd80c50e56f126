"""Logs and traces as tritonclient sets them."""

from __future__ import annotations

import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from gearshift.access import Guard, digest_of, new_token
from gearshift.app.observing import Here, Observed
from gearshift.core.observability import Beginning, Observability
from gearshift.errors import NotReady


class Traces:
    """Fills `gearshift.tracing.Traces` as far as it is set."""

    def __init__(self):
        self.told = []

    def sample(self, share, models):
        self.told.append((*share, dict(models)))


@pytest.fixture
def traces():
    return Traces()


@pytest.fixture
def observed(traces):
    begun = Beginning(Observability(traced=True, rate=3), traceable=True)
    return Observed.alone(Here(begun, traces))


@pytest.fixture
def asked(make_bench, observed, quiet):
    with triton.InferenceServerClient(make_bench(observing=observed).address) as client:
        yield client


@pytest.fixture
def quiet(monkeypatch):
    """The log of the tests stays as it is; this is what would be logged."""
    told = []
    monkeypatch.setattr("gearshift.telemetry.show_logs", lambda **shown: told.append(shown))
    return told


def status_of(call) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as failed:
        call()
    return failed.value.status(), failed.value.message()


def values(told) -> dict[str, object]:
    return {
        name: list(value.value)
        if hasattr(value, "value")
        else getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in told.settings.items()
    }


def test_logs_are_told_and_set(asked, quiet):
    assert values(asked.get_log_settings())["log_info"] is True
    assert quiet == []
    told = asked.update_log_settings({"log_info": False, "log_verbose_level": 2})
    assert values(told)["log_verbose_level"] == 2
    assert values(asked.get_log_settings()) == values(told)
    assert quiet == [{"debug": True, "info": False, "warning": True, "error": True}]
    assert status_of(lambda: asked.update_log_settings({"log_file": "/tmp/x"})) == (
        "StatusCode.UNIMPLEMENTED",
        "log_file cannot be set: lines go to standard error, for whoever runs the server to put"
        " where they belong",
    )
    assert len(quiet) == 1


def test_traces_are_told_and_set(asked, traces):
    assert values(asked.get_trace_settings())["trace_rate"] == ["3"]
    assert values(asked.get_trace_settings("m")) == values(asked.get_trace_settings())
    told = asked.update_trace_settings(settings={"trace_rate": "50", "trace_level": ["OFF"]})
    assert values(told)["trace_level"] == ["OFF"]
    asked.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]})
    # As exactly as at the start, though that cannot be said as one of so many.
    asked.update_trace_settings(settings={"trace_rate": None})
    assert traces.told == [(False, 1 / 50, {}), (True, 1 / 50, {}), (True, None, {})]


def test_a_model_has_settings_of_its_own(asked, traces):
    told = asked.update_trace_settings("m", {"trace_rate": "5"})
    assert values(told)["trace_rate"] == ["5"]
    assert values(asked.get_trace_settings("m")) == values(told)
    for whose in ("", "other"):
        assert values(asked.get_trace_settings(whose))["trace_rate"] == ["3"]
    asked.update_trace_settings(settings={"trace_rate": "9", "trace_level": ["OFF"]})
    asked.update_trace_settings("m", {"trace_level": ["TIMESTAMPS"]})
    assert values(asked.update_trace_settings("m", {"trace_rate": None}))["trace_rate"] == ["9"]
    asked.update_trace_settings("m", {"trace_level": None})
    assert traces.told == [
        (True, None, {"m": (True, 1 / 5)}),
        (False, 1 / 9, {"m": (False, 1 / 5)}),
        (False, 1 / 9, {"m": (True, 1 / 5)}),
        (False, 1 / 9, {"m": (True, 1 / 9)}),
        (False, 1 / 9, {}),
    ]


def test_mistakes_have_tritons_status(asked, traces):
    unknown = status_of(lambda: asked.get_trace_settings("nobody"))
    assert unknown[0] == "StatusCode.INVALID_ARGUMENT"
    assert "no model 'nobody'" in unknown[1]
    wrong = status_of(lambda: asked.update_trace_settings(settings={"trace_rate": "x"}))
    assert wrong[0] == "StatusCode.INVALID_ARGUMENT"
    nobody = status_of(lambda: asked.update_trace_settings("nobody", {"trace_rate": "5"}))
    assert nobody == unknown
    assert traces.told == []


def test_extensions_say_it(asked, bench):
    assert {"trace", "logging"} <= set(asked.get_server_metadata().extensions)
    with triton.InferenceServerClient(bench.address) as other:
        assert not {"trace", "logging"} & set(other.get_server_metadata().extensions)
        status, text = status_of(other.get_log_settings)
        assert (status, "where this server is started" in text) == (
            "StatusCode.UNIMPLEMENTED",
            True,
        )


def test_who_has_not_followed_is_told_and_may_be_told_again(make_bench):
    late = [NotReady("process 1 has not followed yet"), None]

    async def spread(state):
        if (error := late.pop(0)) is not None:
            raise error

    observed = Observed(Beginning(Observability()), spread)
    with triton.InferenceServerClient(make_bench(observing=observed).address) as client:
        change = {"log_info": False}
        assert status_of(lambda: client.update_log_settings(change))[0] == "StatusCode.UNAVAILABLE"
        # It holds by now, and is spread all the same.
        assert values(client.update_log_settings(change))["log_info"] is False
    assert late == []


def test_who_may_use_some_models_only_may_set_those(make_bench, observed, traces, tmp_path):
    token = new_token()
    (tmp_path / "access.toml").write_text(f"""
[[clients]]
name = "some"
tokens_sha256 = ["{digest_of(token)}"]
may = ["control"]
models = ["m"]
""")
    bench = make_bench(observing=observed, access=Guard(tmp_path / "access.toml"))
    headers = {"authorization": f"Bearer {token}"}
    with triton.InferenceServerClient(bench.address) as client:
        assert values(client.get_trace_settings("m", headers=headers))["trace_rate"] == ["3"]
        for change in (
            lambda: client.update_trace_settings(settings={"trace_rate": "1"}, headers=headers),
            lambda: client.update_log_settings({"log_info": False}, headers=headers),
        ):
            status, text = status_of(change)
            assert status == "StatusCode.PERMISSION_DENIED"
            assert "about all of them" in text
        for change in ({}, {"trace_rate": "1"}):
            status, _ = status_of(
                lambda change=change: client.update_trace_settings("other", change, headers)
            )
            assert status == "StatusCode.PERMISSION_DENIED"
        assert traces.told == []
        told = client.update_trace_settings("m", {"trace_rate": "7"}, headers)
        assert values(told)["trace_rate"] == ["7"]
    assert traces.told == [(True, None, {"m": (True, 1 / 7)})]
