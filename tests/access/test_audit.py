"""What is taken down, where, and how much of it."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gearshift.access import AuditLog
from gearshift.errors import ConfigurationInvalid, Forbidden, Unauthenticated

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
def audit(path):
    made = AuditLog(path, now=lambda: NOW)
    yield made
    made.close()


def test_a_line_says_who_did_what_from_where_to_what_and_how_it_ended(audit, path) -> None:
    audit.acted("ops", "10.0.0.7", "/x/Load", 'a "model"\n', "OK")
    (line,) = lines(path)
    assert line == {
        "time": "2026-11-26T12:00:00.000+00:00",
        "client": "ops",
        "peer": "10.0.0.7",
        "action": "/x/Load",
        "target": 'a "model"\n',
        "result": "OK",
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_texts_of_callers_are_short(audit, path) -> None:
    audit.acted("ops", "", "a" * 10_000, "t" * 10_000, "OK")
    assert len(path.read_text()) < 1_000


def test_a_file_that_is_moved_away_is_followed_by_a_new_one(audit, path, tmp_path) -> None:
    audit.acted("ops", "", "first", "", "OK")
    path.rename(tmp_path / "old")
    audit.acted("ops", "", "second", "", "OK")
    assert [line["action"] for line in lines(path)] == ["second"]
    assert [line["action"] for line in lines(tmp_path / "old")] == ["first"]


def test_two_processes_append_to_one_file(audit, path) -> None:
    other = AuditLog(path)
    audit.acted("ops", "", "first", "", "OK")
    other.acted("ops", "", "second", "", "OK")
    audit.acted("ops", "", "third", "", "OK")
    other.close()
    assert [line["action"] for line in lines(path)] == ["first", "second", "third"]


def test_a_full_disk_stops_nobody_and_is_said_once() -> None:
    with capture_logs() as logs:
        audit = AuditLog(Path("/dev/full"))
        for _ in range(3):
            audit.acted("ops", "", "load", "m", "OK")
        audit.close()
    assert [each["log_level"] for each in logs] == ["error", "info", "info", "info"]
    assert "No space left" in logs[0]["reason"]
    assert logs[1]["action"] == "load"


def test_without_a_file_the_log_has_it() -> None:
    with capture_logs() as logs:
        AuditLog(None).acted("ops", "", "load", "m", "OK")
    assert [(each["event"], each["target"]) for each in logs] == [("audit", "m")]


def test_a_place_that_cannot_be_written_is_told_at_the_start(tmp_path) -> None:
    with pytest.raises(ConfigurationInvalid, match="audit log .*No such file"):
        AuditLog(tmp_path / "nowhere" / "audit.jsonl")


def test_refusals_are_counted_always_and_told_at_a_bounded_rate(path) -> None:
    time = 0.0
    audit = AuditLog(path, clock=lambda: time)
    for _ in range(1_000):
        audit.denied("anonymous", "10.0.0.7", "/x/Infer", Unauthenticated("no"))
    assert len(lines(path)) == 20
    time = 2.0
    for _ in range(5):
        audit.denied("desk", "10.0.0.7", "/x/Load", Forbidden("client 'desk' may not"))
    told = lines(path)
    assert len(told) == 22
    assert told[20]["not_told_before"] == 980
    assert (told[20]["result"], told[20]["reason"]) == (
        "PERMISSION_DENIED",
        "client 'desk' may not",
    )
    assert "not_told_before" not in told[21]
    assert audit.denials == {"unauthenticated": 1_000, "forbidden": 5}
    before = len(os.listdir("/dev/fd"))
    audit.close()
    assert len(os.listdir("/dev/fd")) == before - 1
