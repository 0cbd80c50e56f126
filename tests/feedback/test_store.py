"""The tables stay within their bounds, and a database that cannot be used is told clearly."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update

from feedback_place import NOW, Place
from gearshift.core.live import Verdict
from gearshift.core.reports import Report
from gearshift.errors import ConfigurationInvalid
from gearshift.feedback import Store, schema
from gearshift.feedback.store import key_of

DAY = 86_400.0


def rows_in(place: Place, table) -> int:
    with place.store._reading() as connection:
        return connection.scalar(select(func.count()).select_from(table))


def fill(place: Place, begin: int, end: int) -> list[str]:
    """Answers with a label each."""
    ids = [f"r{n}" for n in range(begin, end)]
    place.answer("kinds", [0] * len(ids), ids)
    place.report("kinds", [0] * len(ids), ids)
    return ids


def test_the_oldest_go_first_when_there_are_too_many(at, monkeypatch):
    monkeypatch.setattr("gearshift.feedback.store.DELETED_TOGETHER", 70)
    place = at(rows=1_000)
    ids = fill(place, 0, 1_500)
    place.store.prune(NOW)
    for table in (schema.answers, schema.labels):
        assert 0 < rows_in(place, table) <= 1_000
    kept = place.store.find([key_of("kinds", i.encode()) for i in ids])
    assert [key_of("kinds", i.encode()) in kept for i in ids] == [n >= 500 for n in range(1_500)]


def test_the_oldest_go_first_when_they_are_too_old(at):
    place = at(days=2)
    old = fill(place, 0, 100)
    place.now += 1.5 * DAY
    fill(place, 100, 150)
    place.now += DAY
    place.store.prune(place.now)
    assert rows_in(place, schema.answers) == rows_in(place, schema.labels) == 50
    assert {r.ruling for r in place.report("kinds", [0] * 100, old)} == {"unknown_id"}
    place.now += 2 * DAY
    place.store.prune(place.now)
    assert rows_in(place, schema.answers) == rows_in(place, schema.labels) == 0
    place.store.prune(place.now)
    # A number that was given is not given again: whoever reads on from it misses nothing.
    seen = place.store.changed(0)
    fill(place, 200, 201)
    assert seen == {}
    assert place.store.latest() > 150


def test_a_label_stays_when_its_answer_is_forgotten(at):
    place = at(rows=1_000)
    place.answer("kinds", [0], ["early"])
    place.report("kinds", [2], ["early"])
    place.answer("kinds", [0] * 1_100, [f"r{n}" for n in range(1_100)])
    assert not place.store.find([key_of("kinds", b"early")])
    (same, other) = (place.report("kinds", [label], ["early"])[0].ruling for label in (2, 1))
    assert (same, other) == ("duplicate", "conflict")


def test_a_request_that_is_half_forgotten_is_unknown(at):
    place = at(rows=1_000)
    place.answer("kinds", [0] * 64, ["whole"], rows=64)
    place.answer("kinds", [0] * 970, [f"r{n}" for n in range(970)])
    (result,) = place.rule([Report("kinds", b"whole", (0,) * 64)])
    assert result.ruling == "unknown_id"


def test_artifacts_have_a_number_each_whoever_asks(at):
    one, other = at(), at()
    model = one.catalog.model("kinds")
    numbers = {one.store.artifact(model, variant) for variant in model.variants}
    assert len(numbers) == 2
    assert {other.store.artifact(model, variant) for variant in model.variants} == numbers
    assert one.store.variant_of(one.store.artifact(model, model.by_name("small"))) == "small"
    assert one.store.variant_of(999) == ""


def test_a_verdict_stands_whoever_finds_another(at):
    one, other = at(), at()
    assert one.store.verdicts() == {}
    assert one.store.decide(7, Verdict.PROMOTED, NOW) is Verdict.PROMOTED
    assert other.store.decide(7, Verdict.WITHDRAWN, NOW) is Verdict.PROMOTED
    assert other.store.verdicts() == {7: Verdict.PROMOTED}


def test_a_database_of_another_version_is_left_alone(at):
    place = at()
    place.store.prepare()
    with place.store._writing() as connection:
        connection.execute(update(schema.about).values(version=schema.VERSION + 1))
    with pytest.raises(ConfigurationInvalid, match="feedback of version 2, .* version 1"):
        at().store.prepare()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "setting feedback_url: "),
        ("mysql://here/x", "setting feedback_url: "),
        ("sqlite://", "SQLite needs a file"),
        ("sqlite:///:memory:", "SQLite needs a file"),
        ("nosuch://x", "setting feedback_url: "),
        ("postgresql+nodriver://x", "setting feedback_url: "),
    ],
)
def test_a_url_that_cannot_be_used(url: str, message: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=message):
        Store(url, 1_000, 30)


def test_the_url_is_told_without_its_password() -> None:
    store = Store("postgresql://me:secret@nowhere.invalid/x", 1_000, 30)
    assert "secret" not in store.where
    store.close()


def test_answers_survive_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'feedback.sqlite3'}"
    place = Place(url)
    place.answer("kinds", [1], ["a"])
    place.close()
    again = Place(url)
    assert again.report("kinds", [1], ["a"])[0].ruling == "counted"
    again.close()


def test_sqlite_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    place = Place(f"sqlite:///{tmp_path / 'f.sqlite3'}")
    with place.store._reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "truncate"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    place.close()


def test_what_is_deleted_makes_room(tmp_path: Path) -> None:
    place = Place(f"sqlite:///{tmp_path / 'f.sqlite3'}", rows=2_000)
    sizes = []
    for turn in range(6):
        for part in range(4):
            start = (turn * 4 + part) * 1_000
            place.answer("kinds", [0] * 1_000, [f"r{n}" for n in range(start, start + 1_000)])
        with place.store._reading() as connection:
            sizes.append(connection.exec_driver_sql("PRAGMA page_count").scalar())
    assert sizes[-1] <= 1.1 * sizes[1]
    place.close()


def test_readers_do_not_wait_for_writers(tmp_path: Path) -> None:
    place = Place(f"sqlite:///{tmp_path / 'f.sqlite3'}")
    place.store.prepare()
    with place.store._writing() as connection:
        connection.execute(insert(schema.verdicts).values(artifact=1, verdict="x", decided_at=0))
        assert place.store.latest() == 0
    place.close()
