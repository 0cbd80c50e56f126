"""Every report is ruled on, and counted once at most."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from feedback_place import Place
from gearshift.core.reports import Report, Ruling
from gearshift.feedback import schema


def rulings(results) -> list[str]:
    return [result.ruling.value for result in results]


def labels_in(place) -> int:
    with place.store._reading() as connection:
        return connection.scalar(select(func.count()).select_from(schema.labels))


def test_a_report_is_counted_once_and_what_contradicts_it_does_not_change_it(place):
    place.answer("kinds", [0, 1, 2], ["a", "b", "c"])
    assert rulings(place.report("kinds", [0, 3], ["a", "b"])) == ["counted", "counted"]
    assert rulings(place.report("kinds", [0, 1, 2], ["a", "b", "c"])) == [
        "duplicate",
        "conflict",
        "counted",
    ]
    assert "labels [3], which stand" in place.report("kinds", [1], ["b"])[0].message
    artifact = place.store.artifact(
        place.catalog.model("kinds"), place.catalog.model("kinds").by_name("small")
    )
    assert place.store.window(artifact) == [(0.0, 0, 1.0), (1.0, 3, 1.0), (2.0, 2, 1.0)]
    assert place.book.reports["kinds", "counted"] == 3


def test_the_same_twice_in_one_message(place):
    place.answer("kinds", [0, 1], ["a", "b"])
    results = place.report("kinds", [0, 0, 1, 9, 1], ["a", "a", "a", "a", "b"])
    assert rulings(results) == ["counted", "duplicate", "conflict", "invalid", "counted"]
    assert labels_in(place) == 2


def test_ids_are_of_one_model(place):
    place.answer("kinds", [0], ["same"])
    place.answer("risk", [0.4], ["same"])
    assert rulings(place.report("kinds", [3], ["same"])) == ["counted"]
    assert rulings(place.report("risk", [1], ["same"])) == ["counted"]


def test_an_id_that_is_not_known(place):
    assert rulings(place.report("kinds", [0], ["never"])) == ["unknown_id"]


def test_an_answer_that_waits_to_be_written_is_found(place):
    place.recorder.start()
    place.recorder.answered(place.batch("kinds", [0], ["just now"]))
    assert rulings(place.report("kinds", [0], ["just now"])) == ["counted"]
    place.recorder.close(10)


def test_an_answer_of_another_process_is_waited_for(at, monkeypatch):
    monkeypatch.setattr("gearshift.feedback.reporting.FLUSH_WITHIN", 0.1)
    here, there = at(elsewhere=True), at()
    soon = threading.Timer(0.3, lambda: there.answer("kinds", [2], ["over there"]))
    soon.start()
    assert rulings(here.report("kinds", [2], ["over there"])) == ["counted"]
    soon.join()


def test_an_id_under_which_two_answers_went_out_is_ambiguous(place):
    place.answer("kinds", [0], ["x"])
    place.answer("kinds", [0], ["x"])
    place.answer("kinds", [1, 1], ["y", "y"])
    results = place.report("kinds", [0, 1], ["x", "y"])
    assert rulings(results) == ["ambiguous", "ambiguous"]
    assert labels_in(place) == 0


def test_an_answer_that_is_written_again_is_not_ambiguous(place, monkeypatch):
    """The commit got through, the word of it did not."""
    place.recorder.answered(place.batch("kinds", [0, 1], ["a", "b"]))
    written = place.recorder._enter
    monkeypatch.setattr(place.recorder, "_forget", lambda taken: 1 / 0)
    place.recorder.write()
    monkeypatch.undo()
    assert place.recorder._enter == written
    place.recorder.write()
    assert rulings(place.report("kinds", [0, 1], ["a", "b"])) == ["counted", "counted"]


def test_rows_of_one_request(place):
    place.answer("kinds", [0, 1, 2, 3], ["p", "q"], rows=2)
    told = [
        Report("kinds", b"p", (0, 1)),
        Report("kinds", b"q", (2,)),
        Report("kinds", b"q", (1,) * 3),
    ]
    results = place.rule(told)
    assert rulings(results) == ["counted", "invalid", "invalid"]
    assert "1 labels for a request of 2 rows" in results[1].message
    assert rulings(place.rule([Report("kinds", b"p", (0, 1)), Report("kinds", b"p", (0, 2))])) == [
        "duplicate",
        "conflict",
    ]
    assert labels_in(place) == 2
    told = [
        Report("kinds", b"q", (2,)),
        Report("kinds", b"q", (2, 3)),
        Report("kinds", b"q", (2, 3)),
    ]
    assert rulings(place.rule(told)) == ["invalid", "counted", "duplicate"]


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (Report("nope", b"a", (0,)), "no model 'nope' is served here; there are: faces, kinds"),
        (Report("faces", b"a", (0,)), "the metric of model 'faces', rank1, is not made of single"),
        (Report("kinds", b"", (0,)), "request_id is empty"),
        (Report("kinds", b"a", ()), "labels is empty"),
        (Report("kinds", b"a", (4,)), "label 4 cannot be: the true class has an index from 0 to 3"),
        (Report("kinds", b"a", (-1,)), "label -1 cannot be"),
        (Report("risk", b"a", (2,)), r"label 2 cannot be: a row was positive \(1\) or not \(0\)"),
        (Report("kinds", b"a", (0,), 0.0), "weight is 0; it is a number from 1e-09 to 1e"),
        (Report("kinds", b"a", (0,), -1.0), "weight is -1"),
        (Report("kinds", b"a", (0,), float("nan")), "weight is nan"),
        (Report("kinds", b"a", (0,), float("inf")), "weight is inf"),
    ],
)
def test_what_cannot_be_is_said(place, report, message):
    place.answer("kinds", [0], ["a"])
    (result,) = place.rule([report])
    assert result.ruling is Ruling.INVALID
    assert re.search(message, result.message)
    assert labels_in(place) == 0


def test_ids_of_any_bytes_and_length(place):
    ids = [b"\x00\xff", b"i" * 64, b"i" * 65, b"i" * 100_000, "ü€".encode()]
    batch = place.batch("kinds", [0] * len(ids), ["?"] * len(ids))
    requests = [row._replace(request_id=i) for row, i in zip(batch.requests, ids, strict=True)]
    batch = type(batch)(batch.model, batch.variant, "", {}, batch.outputs, requests)
    place.recorder.answered(batch)
    place.recorder.write()
    assert rulings(place.rule([Report("kinds", i, (0,)) for i in ids])) == ["counted"] * len(ids)


def test_an_answer_that_is_no_number_is_not_kept(place):
    place.answer("risk", [np.nan, 0.5, np.inf], ["a", "b", "c"])
    assert rulings(place.report("risk", [0, 0, 0], ["a", "b", "c"])) == [
        "unknown_id",
        "counted",
        "unknown_id",
    ]


def test_models_that_cannot_be_joined_are_not_recorded(place):
    place.recorder.answered(place.batch("faces", [0], ["a"]))
    assert not place.recorder._queue


def test_two_places_that_report_the_same_at_once_count_it_once(at):
    one, other = at(rows=100_000), at(rows=100_000)
    ids = [f"r{n}" for n in range(1_500)]
    one.answer("kinds", [0, 1, 2] * 500, ids)
    start = threading.Barrier(4)

    def report(place, order, label):
        start.wait(10)
        found = []
        for begin in range(0, len(order), 100):
            found += place.report("kinds", [label] * 100, order[begin : begin + 100])
        return found

    with ThreadPoolExecutor(4) as threads:
        jobs = [
            threads.submit(report, place, order, label)
            for place, order, label in (
                (one, ids, 0),
                (other, ids[::-1], 0),
                (one, ids[::-1], 1),
                (other, ids, 1),
            )
        ]
        told = [rulings(job.result(60)) for job in jobs]
    everything = list(itertools.chain(*told))
    assert everything.count("counted") == len(ids) == labels_in(one)
    assert everything.count("duplicate") == len(ids)
    assert everything.count("conflict") == 2 * len(ids)


IDS = ("a", "b", "c")


@settings(max_examples=25)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("answer"), st.sampled_from(IDS), st.integers(0, 3)),
            st.tuples(st.just("report"), st.sampled_from(IDS), st.integers(0, 3)),
        ),
        max_size=12,
    )
)
def test_in_any_order_each_id_is_counted_at_most_once(tmp_path_factory, steps):
    file = tmp_path_factory.mktemp("any") / "feedback.sqlite3"
    with contextlib.closing(Place(f"sqlite:///{file}")) as place:
        answers = dict.fromkeys(IDS, 0)
        counted: dict[str, int] = {}
        for what, name, value in steps:
            if what == "answer":
                place.answer("kinds", [value], [name])
                answers[name] += 1
                continue
            (said,) = rulings(place.report("kinds", [value], [name]))
            if answers[name] == 0:
                assert said == "unknown_id"
            elif answers[name] > 1:
                assert said == "ambiguous"
            elif name in counted:
                assert said == ("duplicate" if counted[name] == value else "conflict")
            else:
                assert said == "counted"
                counted[name] = value
        assert labels_in(place) == len(counted)
