"""What counts as lost in `make bench-drains`."""

from __future__ import annotations

import signal

import pytest
from loadtests.reliability.drains import Run, judge, keep, known


def judged(answers, admitted, code=0, ready=True):
    told = Run("one process", starting=False, moment=0.1, code=code, ready=ready)
    judge(told, answers, admitted)
    return told


def test_answers_and_honest_refusals_lose_nothing():
    told = judged(
        {"a": "OK", "b": "DEADLINE_EXCEEDED", "c": "UNAVAILABLE", "d": "RESOURCE_EXHAUSTED"},
        ["a", "b"],
    )
    assert told.as_it_should
    assert (told.admitted, told.lost) == (2, [])


@pytest.mark.parametrize("how", ["UNAVAILABLE", "CANCELLED", "INTERNAL", "WRONG", "UNKNOWN"])
def test_an_admitted_request_without_its_answer_is_lost_whatever_its_caller_was_told(how):
    told = judged({"a": "OK", "b": how}, ["a", "b"])
    assert told.lost == [f"b: {how}"]
    assert not told.as_it_should


def test_an_admitted_request_that_nobody_heard_of_is_lost():
    assert judged({}, ["a"]).lost == ["a: nothing"]


def test_a_request_that_ran_twice_or_was_not_seen_fails_the_run():
    assert judged({"a": "OK"}, ["a", "a"]).twice == 1
    assert judged({"a": "OK"}, []).unseen == 1
    assert not judged({"a": "OK"}, ["a", "a"]).as_it_should
    assert not judged({"a": "OK"}, []).as_it_should


def test_exit_codes():
    assert judged({}, [], code=-signal.SIGTERM, ready=False).as_it_should
    assert not judged({}, [], code=-signal.SIGTERM).as_it_should
    assert not judged({}, [], code=1, ready=False).as_it_should


def test_runs_of_the_same_code_are_known_later(tmp_path):
    parts = tmp_path / "parts.jsonl"
    assert known(parts, "abc") == {}
    told = Run("one process", starting=True, moment=0.5, code=-15, lost=["1-2"])
    keep(parts, "abc", 7, told)
    keep(parts, "other", 8, told)
    assert known(parts, "abc") == {7: told}
