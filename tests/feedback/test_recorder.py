"""Answers are recorded beside the engine: bounded, in batches, whatever the database does."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from feedback_place import NOW, Place
from gearshift.feedback import recorder as module
from gearshift.feedback import schema
from gearshift.feedback.store import key_of


@pytest.fixture
def place(tmp_path):
    made = Place(f"sqlite:///{tmp_path / 'f.sqlite3'}", rows=100_000)
    yield made
    made.close()


def broken(*_):
    raise OperationalError("INSERT", {}, Exception("disk is full"))


def test_what_is_kept_of_an_answer(place):
    batch = place.batch("kinds", [3, 1, 2], ["a", "b"])
    batch.requests[1] = batch.requests[1]._replace(first=2, fallback=True)
    place.recorder.answered(batch)
    place.recorder.write()
    with place.store._reading() as connection:
        found = connection.execute(select(schema.answers).order_by(schema.answers.c.id)).all()
    assert [(r.request_id, r.row, r.rows, r.answer, r.fallback) for r in found] == [
        (b"a", 0, 1, 3.0, False),
        (b"b", 0, 1, 2.0, True),
    ]
    assert [r.probability for r in found] == [pytest.approx(0.7)] * 2
    assert {(r.model, r.service_class, r.cascade, r.reference) for r in found} == {
        ("kinds", "default", "", None)
    }
    assert {r.answered_at for r in found} == {NOW}


def test_logits_are_made_probabilities_and_scores_stay(place) -> None:
    classes, score = (place.readings.models[name] for name in ("kinds", "risk"))
    answers, sure = classes.read(np.array([[0, 5, 1, 0], [-900, 900, 0, 0]], np.float32))
    assert answers.tolist() == [1.0, 1.0]
    assert sure == pytest.approx([np.exp(5) / (2 + np.exp(5) + np.exp(1)), 1.0])
    answers, _ = classes.read(np.array([[0.1, np.nan, 0.3, 0.1]], np.float16))
    assert np.isnan(answers).all()
    assert score.read(np.array([[2.5], [-1.0]]))[0].tolist() == [2.5, -1.0]
    assert score.agree(0.6, 0.9)
    assert not score.agree(0.4, 0.6)
    assert classes.agree(1, 1)
    assert not classes.agree(1, 2)


def test_nothing_waits_for_a_database_that_fails_and_nothing_is_lost(place, monkeypatch):
    monkeypatch.setattr(place.store, "record", broken)
    with capture_logs() as logs:
        for n in range(3):
            place.answer("kinds", [0, 1], [f"a{n}", f"b{n}"])
    assert place.recorder._retry.pause == 4.0
    assert place.book.failing == {"answers": True, "accuracies": False}
    assert [log["event"] for log in logs] == [
        "answers are not recorded: the feedback database fails"
    ]
    assert "disk is full" in logs[0]["reason"]
    monkeypatch.undo()
    with capture_logs() as logs:
        place.recorder.write()
    assert [log["log_level"] for log in logs] == ["info"]
    assert place.recorder._retry.pause == 0
    assert not place.book.failing["answers"]
    kept = place.store.find([key_of("kinds", f"a{n}".encode()) for n in range(3)])
    assert len(kept) == 3
    assert not any(row.ambiguous for rows in kept.values() for row in rows)


def test_what_waits_is_bounded_and_the_rest_is_counted(place, monkeypatch):
    monkeypatch.setattr(module, "MOST_HELD", 10_000)
    monkeypatch.setattr(place.store, "record", broken)
    for n in range(200):
        place.recorder.answered(place.batch("kinds", [0, 1], [f"a{n}", f"b{n}"]))
    place.recorder.write()
    assert place.recorder._taken - place.recorder._done <= 11_000
    held = len(place.recorder._queue)
    assert place.book.dropped == 2 * (200 - held)
    monkeypatch.undo()
    place.recorder.write()
    assert place.recorder._taken == place.recorder._done
    place.recorder.answered(place.batch("kinds", [0], ["after"]))
    assert len(place.recorder._queue) == 1


def test_a_batch_that_cannot_be_read_does_not_stop_the_others(place):
    bad = place.batch("kinds", [0], ["bad"])
    bad.outputs["y"] = np.array([["no numbers"]], object)
    place.recorder.answered(bad)
    with capture_logs() as logs:
        place.recorder.write()
    assert logs[0]["event"] == "some answers were not recorded"
    place.answer("kinds", [0], ["good"])
    assert place.store.find([key_of("kinds", b"good")])


def test_the_thread_writes_by_itself_and_what_is_held_at_the_end(place, monkeypatch):
    monkeypatch.setattr(module, "WRITE_EVERY", 0.01)
    written = threading.Event()
    record = place.store.record
    monkeypatch.setattr(place.store, "record", lambda *rows: (record(*rows), written.set()))
    place.recorder.start()
    place.recorder.answered(place.batch("kinds", [0], ["a"]))
    assert written.wait(10)
    assert place.recorder.flush(10)
    place.recorder.answered(place.batch("kinds", [0], ["b"]))
    place.recorder.close(10)
    assert len(place.store.find([key_of("kinds", b"a"), key_of("kinds", b"b")])) == 2


def test_a_flush_is_bounded(place, monkeypatch):
    monkeypatch.setattr(place.store, "record", broken)
    place.recorder.start()
    place.recorder.answered(place.batch("kinds", [0], ["a"]))
    assert not place.recorder.flush(0.2)
    place.recorder.close(10)


def test_inputs_are_not_held(place):
    batch = place.batch("kinds", [0], ["a"])
    place.recorder.answered(batch)
    assert not any(batch is each or batch.inputs is each for each in place.recorder._queue[0])


def test_shadow_runs_are_compared_with_what_was_answered(place):
    place.answer("kinds", [0, 1, 2], ["a", "b", "c"])
    place.recorder.shadowed(place.batch("kinds", [0, 1, 3], ["a", "b", "c"], variant="large"))
    place.recorder.shadowed(place.batch("kinds", [0], ["never"], variant="large"))
    place.recorder.write()
    assert place.book.shadows == {
        ("kinds", "small", "default", True): 2,
        ("kinds", "small", "default", False): 1,
    }
    (row,) = place.store.find([key_of("kinds", b"c")])[key_of("kinds", b"c")]
    assert (row.answer, row.reference) == (2.0, 3.0)
