"""What `make bench-remote` counts as lost, noticed and attained."""

from __future__ import annotations

import math

import pytest
from loadtests.remote.judging import (
    NEEDS,
    NOTHING,
    Blow,
    Ended,
    Phase,
    judge,
    phase,
    together,
)
from loadtests.remote.pace import Pace, Paced

BLOW = Blow(struck=10.0, up=12.0, end=15.0)


def ended(name="a", sent=9.95, took=0.05, status="OK", floor=0.0, variant="slow", **more):
    accuracy = 0.95 if variant == "far" else 0.9
    more = {"right": status == "OK", "accuracy": accuracy if status == "OK" else 0.0, **more}
    return Ended(name, floor, sent, 0.4, sent + took, status, variant=variant, **more)


def judged(*endings, admitted=None, begin=8.0):
    known = {each.id for each in endings} if admitted is None else admitted
    return judge(endings, known, BLOW, begin)


@pytest.mark.parametrize(
    "bad",
    [
        ended(status="UNAVAILABLE"),
        ended(status="DEADLINE_EXCEEDED"),
        ended(status=NOTHING),
        ended(right=False),
        ended(took=0.41),
        ended(sent=8.5, status="INTERNAL"),
        ended(sent=13.0, status="UNAVAILABLE"),
    ],
)
def test_an_admitted_request_that_could_be_answered_in_front_and_was_not_is_lost(bad):
    assert len(judged(bad).lost) == 1
    assert judged(bad, admitted=set()).lost == []


def test_what_only_the_server_behind_could_answer_is_not_lost_and_is_told():
    found = judged(ended(status="UNAVAILABLE", floor=0.92), ended("b", floor=0.92, variant="far"))
    assert found.lost == []
    assert found.beyond == {"UNAVAILABLE": 1}


def test_what_had_no_time_left_when_it_was_struck_is_not_lost():
    sent = BLOW.struck - 0.4 + NEEDS
    assert len(judged(ended(sent=sent + 0.001, took=0.4, status="DEADLINE_EXCEEDED")).lost) == 1
    late = judged(ended(sent=sent - 0.001, took=0.4, status="DEADLINE_EXCEEDED"))
    assert (late.lost, late.beyond) == ([], {"DEADLINE_EXCEEDED": 1})


def test_its_return_is_noticed_with_the_first_answer_to_a_request_that_was_sent_since():
    found = judged(
        ended("a", sent=11.9, took=0.2, variant="far"),
        ended("b", sent=12.1, took=0.1),
        ended("c", sent=12.3, took=0.1, variant="far"),
        ended("d", sent=12.5, took=0.1, variant="far"),
    )
    assert found.noticed == pytest.approx(0.4)
    assert found.after.requests == 1
    assert judged(ended(sent=12.3)).noticed == math.inf


def test_phases_count_a_failure_as_nothing_and_leave_out_what_needs_the_one_behind():
    found = judged(
        ended("a", sent=9.0, variant="far"),
        ended("b", sent=9.5, variant="far"),
        ended("c", sent=10.5),
        ended("d", sent=11.0, status="UNAVAILABLE"),
        ended("e", sent=11.5, status="UNAVAILABLE", floor=0.92),
        ended("f", sent=7.0, status="UNAVAILABLE"),
        ended("g", sent=15.5, status="UNAVAILABLE"),
    )
    assert found.before == Phase(2, 1.0, 0.95)
    assert found.during == Phase(2, 0.5, 0.45)
    assert together([found.before, found.during]) == Phase(4, 0.75, pytest.approx(0.7))
    assert phase([]) == Phase(0, 0.0, 0.0)


def test_how_late_the_callers_were_in_this_turn():
    late = [(7.9, 5.0), (9.0, 0.01), (14.9, 0.2), (15.0, 3.0)]
    assert judge([], set(), BLOW, 8.0, late).late == 0.2
    assert judged().late == 0.0


def test_under_way_is_what_was_admitted_and_not_answered_when_it_was_struck():
    found = judged(
        ended("a", sent=9.99, took=0.1),
        ended("b", sent=9.9, took=0.05),
        ended("c", sent=9.99, took=0.1, status="RESOURCE_EXHAUSTED"),
        admitted={"a", "b"},
    )
    assert found.under_way == 1


def test_the_pace_of_a_server_is_what_its_file_says_now(tmp_path):
    file = tmp_path / "pace.json"
    Pace(0.01).write(file)
    paced = Paced(file)
    assert {paced.next() for _ in range(20)} == {0.01}
    Pace(0.01, share=0.5, slow=1.0).write(file)
    assert {paced.next() for _ in range(50)} == {0.01, 1.0}
