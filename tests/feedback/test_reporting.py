"""What a caller sees when the database fails, is slow, or too much is asked at once."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from feedback_place import Place
from gearshift.core.reports import Report
from gearshift.errors import FeedbackUnavailable
from gearshift.feedback import reporting as module

TOLD = [Report("kinds", b"a", (0,))]


@pytest.fixture
def place(tmp_path):
    made = Place(f"sqlite:///{tmp_path / 'f.sqlite3'}")
    made.answer("kinds", [0], ["a"])
    yield made
    made.close()


async def test_a_database_that_fails_is_unavailable_and_told_once(place, monkeypatch):
    def broken(*_):
        raise OperationalError("INSERT", {}, Exception("disk is full"))

    monkeypatch.setattr(place.store, "count", broken)
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(FeedbackUnavailable, match="send it again later"):
                await place.reporting.report(TOLD)
    assert [log["log_level"] for log in logs] == ["warning"]
    monkeypatch.undo()
    assert [r.ruling for r in await place.reporting.report(TOLD)] == ["counted"]
    assert [r.ruling for r in await place.reporting.report(TOLD)] == ["duplicate"]


async def test_a_database_that_hangs_does_not_hang_the_caller(place, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_WITHIN", 0.05)
    go = threading.Event()
    count = place.store.count
    monkeypatch.setattr(place.store, "count", lambda rows: go.wait(20) and count(rows))
    with pytest.raises(FeedbackUnavailable, match="does not answer in time"):
        await place.reporting.report(TOLD)
    go.set()
    monkeypatch.undo()
    # What was begun goes on; reporting it again counts nothing twice.
    for _ in range(200):
        (result,) = await place.reporting.report(TOLD)
        if result.ruling == "duplicate":
            return
    pytest.fail("the report under way was not counted")


async def test_too_much_at_once_is_refused(place, monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    go = threading.Event()
    count = place.store.count
    monkeypatch.setattr(place.store, "count", lambda rows: go.wait(20) and count(rows))
    waiting = [asyncio.create_task(place.reporting.report(TOLD)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(FeedbackUnavailable, match="too many reports at once"):
        await place.reporting.report(TOLD)
    go.set()
    results = await asyncio.gather(*waiting)
    assert sorted(result[0].ruling for result in results) == ["counted", "duplicate"]
    assert place.reporting._waiting == 0


async def test_a_caller_that_leaves_stops_nothing(place, monkeypatch):
    go, done = threading.Event(), threading.Event()
    count = place.store.count

    def slow(rows):
        go.wait(20)
        found = count(rows)
        done.set()
        return found

    monkeypatch.setattr(place.store, "count", slow)
    task = asyncio.create_task(place.reporting.report(TOLD))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    assert await asyncio.to_thread(done.wait, 10)
    assert [r.ruling for r in await place.reporting.report(TOLD)] == ["duplicate"]


async def test_nothing_is_taken_after_the_end(place):
    place.reporting.close(5)
    with pytest.raises(FeedbackUnavailable):
        await place.reporting.report(TOLD)


async def test_who_learns_is_told_of_new_labels_only(place):
    told = []
    place.reporting._learned = lambda: told.append(1)
    await place.reporting.report(TOLD)
    await place.reporting.report(TOLD)
    assert told == [1]
