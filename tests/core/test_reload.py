"""When a folder is looked at again, and what goes from one process to another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.reload import Reload, Reloaded, Result, Settled
from gearshift.errors import Problem


def test_a_changed_folder_is_due_once_it_has_been_left_alone():
    settled = Settled(2.0, {"a": 1})
    assert settled.look(0.0, {"a": 1}) == []
    assert settled.look(1.0, {"a": 2}) == []
    assert settled.look(2.0, {"a": 3}) == []  # it is still being copied
    assert settled.look(3.5, {"a": 3}) == []
    assert settled.look(4.0, {"a": 3}) == ["a"]
    assert settled.look(9.0, {"a": 3}) == []  # whatever became of it, nothing has changed since


def test_one_that_is_written_to_without_end_does_not_keep_others_waiting():
    settled = Settled(2.0, {})
    found = [settled.look(float(now), {"busy": now, "new": 0}) for now in range(4)]
    assert found == [[], [], ["new"], []]


def test_one_that_goes_and_comes_back_as_it_was_is_let_alone():
    settled = Settled(2.0, {"a": 1})
    assert settled.look(0.0, {}) == []
    assert settled.look(1.0, {"a": 1}) == []
    assert settled.look(9.0, {"a": 1}) == []


def test_one_that_is_gone_is_due_once():
    settled = Settled(2.0, {"a": 1})
    assert settled.look(0.0, {}) == []
    assert settled.look(2.0, {}) == ["a"]
    assert settled.look(5.0, {}) == []
    assert settled.look(6.0, {"a": 1}) == []
    assert settled.look(8.0, {"a": 1}) == ["a"]


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)), max_size=30))
def test_in_the_end_what_was_seen_last_has_been_looked_at(looks):
    """However folders change: once they no longer do, each is as it was when it was due last."""
    settled, due = Settled(2.0, {}), {}
    for now, found in enumerate(looks):
        for name in settled.look(float(now), found):
            due[name] = found.get(name)
    last = looks[-1] if looks else {}
    for now in (100.0, 103.0, 106.0):
        for name in settled.look(now, last):
            due[name] = last.get(name)
    assert {name: state for name, state in due.items() if state is not None} == last


def test_orders_and_answers_go_over_as_they_are():
    for order in (Reload(3), Reload(4, (), ("b",)), Reload(5, ("a",))):
        assert Reload.unpack(order.pack()) == order
    told = Reloaded({"a": Result.LOADED, "b": Result.FAILED}, (Problem("b/x", "k", "wrong"),))
    assert Reloaded.unpack(told.pack()) == told
    assert not told.changed
    assert Reloaded({"a": Result.UNLOADED}).changed
    assert not Reloaded({"a": Result.UNCHANGED}).changed
