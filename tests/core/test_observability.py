"""What may be set of logs and traces, in Triton's words."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.observability import (
    LOGS,
    TRACES,
    Beginning,
    Observability,
    Traced,
    log_settings,
    trace_settings,
    with_logs,
    with_traces,
)
from gearshift.errors import InvalidInput, NotServed

START = Observability()
TRACED = Beginning(Observability(traced=True, rate=100), traceable=True)

owns = st.builds(Traced, st.none() | st.booleans(), st.none() | st.integers(1, 2**32 - 1))
states = st.builds(
    Observability,
    models=st.dictionaries(
        st.text(min_size=1), owns.filter(lambda own: own != Traced()), max_size=3
    ),
    **{name: st.booleans() for name in ("info", "warning", "error", "traced")},
    **{name: st.integers(1, 2**32 - 1) for name in ("verbose", "rate")},
)
junk = st.none() | st.booleans() | st.integers() | st.text()


def test_what_is_told_is_what_triton_tells():
    assert log_settings(START) == {
        "log_file": "",
        "log_info": True,
        "log_warning": True,
        "log_error": True,
        "log_verbose_level": 0,
        "log_format": "ISO8601",
    }
    assert trace_settings(TRACED.state) == {
        "trace_level": ["TIMESTAMPS"],
        "trace_rate": ["100"],
        "trace_count": ["-1"],
        "trace_mode": ["opentelemetry"],
    }
    assert trace_settings(START)["trace_level"] == ["OFF"]


@given(states, states)
def test_what_is_told_can_be_set(before, after):
    told = {name: value for name, value in log_settings(after).items() if name != "log_file"}
    changed = with_logs(before, told)
    changed = with_traces(changed, TRACED, trace_settings(after))
    assert replace(changed, models=after.models) == after
    assert changed.models == before.models
    assert len(fields(Observability)) == 7  # so that none is forgotten here


@given(states)
def test_what_is_passed_on_is_what_there_is(state):
    assert Observability.unpack(json.loads(json.dumps(state.pack()))) == state


@given(states, st.dictionaries(st.sampled_from(LOGS) | st.text(), junk, max_size=3))
def test_a_change_of_logs_changes_nothing_else_or_nothing_at_all(before, changes):
    try:
        after = with_logs(before, changes)
    except (InvalidInput, NotServed):
        return
    assert {name: log_settings(after)[name] for name in changes} == changes
    assert trace_settings(after) == trace_settings(before)


@given(
    states,
    st.dictionaries(
        st.sampled_from(TRACES) | st.text(),
        st.lists(st.sampled_from(("OFF", "TIMESTAMPS", "TENSORS", "7", "-1")) | st.text()),
        max_size=3,
    ),
)
def test_a_change_of_traces_changes_nothing_else_or_nothing_at_all(before, changes):
    try:
        after = with_traces(before, TRACED, changes)
    except (InvalidInput, NotServed):
        return
    assert log_settings(after) == log_settings(before)
    for name, values in changes.items():
        if values and name != "trace_rate":
            assert set(trace_settings(after)[name]) == set(values)
        if values and name == "trace_rate":
            assert after.rate == int(values[0])


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"log_info": 3}, InvalidInput, "log_info must be true or false, got 3"),
        ({"log_error": None}, InvalidInput, "log_error must be true or false, got None"),
        ({"log_verbose_level": True}, InvalidInput, "a whole number"),
        ({"log_verbose_level": -1}, InvalidInput, "a whole number"),
        ({"log_format": "bogus"}, InvalidInput, "must be ISO8601, got 'bogus'"),
        ({"log_format": "default"}, NotServed, "setting log_format"),
        ({"log_file": ""}, NotServed, "standard error"),
        ({"log_level": "info"}, InvalidInput, "unknown log setting 'log_level'; there are log_inf"),
    ],
)
def test_what_cannot_be_set_of_logs(changes, kind, text):
    with pytest.raises(kind, match=text):
        with_logs(START, {"log_warning": False, **changes})


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"trace_level": ["TIMESTAMPS", "TENSORS"]}, NotServed, "TENSORS: what is in tensors"),
        ({"trace_level": ["OFF", "TIMESTAMPS"]}, InvalidInput, "OFF excludes all others"),
        ({"trace_level": ["MAX"]}, InvalidInput, "'MAX' is none; there are OFF and TIMESTAMPS"),
        ({"trace_rate": ["0"]}, InvalidInput, "'0' must be a whole number from 1"),
        ({"trace_rate": ["-1"]}, InvalidInput, "whole number"),
        ({"trace_rate": ["1" * 11]}, InvalidInput, "whole number"),
        ({"trace_rate": ["4294967296"]}, InvalidInput, "whole number"),
        ({"trace_rate": ["1", "2"]}, InvalidInput, "takes one value, got 2"),
        ({"trace_count": ["5"]}, NotServed, "can only be -1"),
        ({"trace_mode": ["triton"]}, NotServed, "can only be opentelemetry"),
        ({"trace_file": []}, NotServed, "into no file"),
        ({"log_frequency": ["3"]}, NotServed, "into no file"),
        ({"rate": ["3"]}, InvalidInput, "unknown trace setting 'rate'; there are trace_level,"),
    ],
)
def test_what_cannot_be_set_of_traces(changes, kind, text):
    with pytest.raises(kind, match=text):
        with_traces(TRACED.state, TRACED, changes)


def test_spans_that_would_go_nowhere_are_not_turned_on():
    nowhere = Beginning(START)
    with pytest.raises(InvalidInput, match="setting otel_endpoint"):
        with_traces(START, nowhere, {"trace_level": ["TIMESTAMPS"]})
    assert with_traces(START, nowhere, {"trace_level": ["OFF"], "trace_rate": ["5"]}).rate == 5


def test_where_the_environment_says_who_is_traced_the_rate_stays():
    fixed = Beginning(TRACED.state, traceable=True, rate_fixed=True)
    with pytest.raises(NotServed, match="OTEL_TRACES_SAMPLER"):
        with_traces(TRACED.state, fixed, {"trace_rate": ["7"]})
    assert not with_traces(TRACED.state, fixed, {"trace_level": ["OFF"]}).traced


def test_without_values_a_setting_is_as_it_was_at_the_start():
    changed = with_traces(TRACED.state, TRACED, {"trace_rate": ["7"], "trace_level": ["OFF"]})
    assert with_traces(changed, TRACED, {"trace_rate": []}) == Observability(rate=100)
    assert with_traces(changed, TRACED, {"trace_level": [], "trace_rate": []}) == TRACED.state


# --- of one model -----------------------------------------------------------------------------


def test_a_model_has_what_all_have_but_for_its_own():
    state = with_traces(TRACED.state, TRACED, {"trace_rate": ["5"]}, "m")
    assert trace_settings(state, "m") == {**trace_settings(state), "trace_rate": ["5"]}
    assert trace_settings(state, "other") == trace_settings(state) == trace_settings(TRACED.state)
    state = with_traces(state, TRACED, {"trace_rate": ["9"], "trace_level": ["OFF"]})
    assert (state.of("m"), state.of("other")) == ((False, 5), (False, 9))
    state = with_traces(state, TRACED, {"trace_level": ["TIMESTAMPS"]}, "m")
    assert (state.of("m"), state.of("other")) == ((True, 5), (False, 9))


def test_without_values_a_model_has_what_all_have():
    state = with_traces(TRACED.state, TRACED, {"trace_rate": ["5"], "trace_level": ["OFF"]}, "m")
    state = with_traces(state, TRACED, {"trace_rate": ["9"]})
    state = with_traces(state, TRACED, {"trace_rate": []}, "m")
    assert (state.of("m"), state.models) == ((False, 9), {"m": Traced(traced=False)})
    state = with_traces(state, TRACED, {"trace_level": []}, "m")
    assert (state.of("m"), state.models) == ((True, 9), {})


@given(
    states,
    st.text(min_size=1),
    st.text(),
    st.dictionaries(
        st.sampled_from(("trace_level", "trace_rate")) | st.text(),
        st.lists(st.sampled_from(("OFF", "TIMESTAMPS", "7")), max_size=2),
        max_size=2,
    ),
)
def test_a_change_of_one_model_changes_no_other(before, model, other, changes):
    try:
        after = with_traces(before, TRACED, changes, model)
    except (InvalidInput, NotServed):
        return
    assert replace(after, models={}) == replace(before, models={})
    if other != model:
        assert after.of(other) == before.of(other)
    # Nothing is kept of who has nothing of its own.
    assert Traced() not in after.models.values()


def test_what_cannot_be_set_of_a_model():
    nowhere = Beginning(START)
    with pytest.raises(InvalidInput, match="setting otel_endpoint"):
        with_traces(START, nowhere, {"trace_level": ["TIMESTAMPS"]}, "m")
    fixed = Beginning(TRACED.state, traceable=True, rate_fixed=True)
    with pytest.raises(NotServed, match="OTEL_TRACES_SAMPLER"):
        with_traces(TRACED.state, fixed, {"trace_rate": ["7"]}, "m")
    assert with_traces(TRACED.state, fixed, {"trace_rate": []}, "m") == TRACED.state
    off = with_traces(TRACED.state, fixed, {"trace_level": ["OFF"]}, "m")
    assert off.of("m") == (False, 100)
