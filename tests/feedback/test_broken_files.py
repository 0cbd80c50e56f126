"""What befalls the SQLite file while it is in use: serving goes on, nothing is lost in silence, and
once the cause is gone all is well again."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from feedback_place import Place
from gearshift.errors import FeedbackUnavailable
from gearshift.feedback import Store
from gearshift.feedback.broken import put_aside


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "feedback.sqlite3"


@pytest.fixture
def place(file: Path) -> Iterator[Place]:
    made = Place(f"sqlite:///{file}")
    made.answer("kinds", [1], ["before"])
    assert [each.ruling for each in made.report("kinds", [1], ["before"])] == ["counted"]
    made.learner.look(0.0)
    yield made
    made.close()


def works(place: Place, name: str) -> bool:
    """An answer is kept, a label counted, and learned from."""
    place.answer("kinds", [1], [name])
    if place.book.failing["answers"]:
        return False
    ruled = [each.ruling for each in place.report("kinds", [1], [name])]
    place.learner.look(0.0)
    return ruled == ["counted"] and not place.book.failing["accuracies"]


def truncated(path: Path) -> None:
    os.truncate(path, 0)


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 + 100)


def overwritten(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(os.urandom(size))


def removed(path: Path) -> None:
    shutil.rmtree(path.parent)


def moved(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


SAID = {
    truncated: "removed or emptied",
    cut_off: "broken: it was put aside",
    overwritten: "broken: it was put aside",
    removed: "removed or emptied",
    moved: "removed or emptied",
}


@pytest.mark.parametrize("fault", SAID, ids=lambda fault: fault.__name__)
def test_a_new_one_is_begun_and_what_is_lost_is_said(place: Place, file: Path, fault) -> None:
    with capture_logs() as logs:
        fault(file)
        tries = [works(place, f"after {n}") for n in range(4)]
    assert tries[-1], "it recovers by itself"
    losses = [line for line in logs if line["log_level"] == "error"]
    assert [SAID[fault] in line["event"] for line in losses] == [True]
    for line in losses:
        if "put_aside" in line:
            assert Path(line["put_aside"]).is_file()
    # What was answered while nothing could be written is not lost either.
    found = place.report("kinds", [1], ["after 0"])
    assert found[0].ruling in ("counted", "duplicate")


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
@pytest.mark.parametrize("fault", [truncated, overwritten])
def test_files_beside_it_do_no_harm(place: Place, file: Path, suffix: str, fault) -> None:
    beside = Path(f"{file}{suffix}")
    if not beside.exists():
        beside.write_bytes(b"\0" * 32_768)
    fault(beside)
    assert works(place, "after")
    assert place.report("kinds", [1], ["before"])[0].ruling == "duplicate"


def test_no_file_is_mapped_into_memory(place: Place, file: Path) -> None:
    """Who truncates such a file ends the process that has mapped it."""
    assert works(place, "more")
    assert file.name not in Path("/proc/self/maps").read_text()


def test_a_database_of_an_earlier_version_goes_on_without_its_log(file: Path) -> None:
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    place = Place(f"sqlite:///{file}")
    assert works(place, "first")
    assert not Path(f"{file}-shm").exists()
    place.close()


@contextmanager
def full_disk(at: int) -> Iterator[None]:
    """No file of this process grows beyond `at` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another program is at it and does not come to an end."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@pytest.mark.parametrize("cause", ["full", "locked"])
def test_while_it_fails_answers_wait_and_then_nothing_is_missing(
    place: Place, file: Path, cause: str, monkeypatch
) -> None:
    monkeypatch.setattr("gearshift.feedback.database.SECONDS", 0.1)
    monkeypatch.setattr("gearshift.feedback.reporting.FLUSH_WITHIN", 0.0)
    place.store.close()
    place.store._engine = Store(f"sqlite:///{file}", 1_000, 30)._engine
    ids = [f"meanwhile {n}" for n in range(300)]
    with (
        capture_logs() as logs,
        full_disk(file.stat().st_size) if cause == "full" else locked(file),
    ):
        place.answer("kinds", [1] * len(ids), ids)
        assert place.book.failing["answers"]
        with pytest.raises(FeedbackUnavailable, match="send it again later"):
            place.report("kinds", [1], ["meanwhile 0"])
    assert logs[0]["event"] == "answers are not recorded: the feedback database fails"
    assert not [line for line in logs if line["log_level"] == "error"]
    assert works(place, "after")
    assert {each.ruling for each in place.report("kinds", [1] * len(ids), ids)} == {"counted"}
    assert place.report("kinds", [1], ["before"])[0].ruling == "duplicate"


def test_a_place_that_cannot_be_written_is_no_reason_to_fall(tmp_path: Path) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("a file where the folder should be")
    place = Place(f"sqlite:///{blocked / 'feedback.sqlite3'}")
    assert not works(place, "before")
    blocked.unlink()
    assert works(place, "after")
    place.close()


def test_what_is_sound_is_not_put_aside(place: Place, file: Path) -> None:
    assert put_aside(file) is None
    assert put_aside(file.with_name("nothing")) is None
    with locked(file):
        assert put_aside(file) is None
    assert works(place, "after")


def test_broken_ones_do_not_take_each_others_names(tmp_path: Path) -> None:
    file = tmp_path / "f.sqlite3"
    names = []
    for _ in range(2):
        file.write_bytes(b"no database" * 100)
        names.append(put_aside(file))
    assert names == [Path(f"{file}.broken-1"), Path(f"{file}.broken-2")]


WRITER = """
import sys
from feedback_place import Place
place = Place("sqlite:///" + sys.argv[1])
for n in range(100_000):
    place.answer("kinds", [1], [f"r{n}"])
    if place.report("kinds", [1], [f"r{n}"])[0].ruling == "counted":
        print(n, flush=True)
"""


def test_what_was_acknowledged_is_there_after_a_kill(file: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(file)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as writer:
        told = [int(writer.stdout.readline()) for _ in range(8)]
        writer.kill()
        told += map(int, writer.stdout.read().split())
    again = Place(f"sqlite:///{file}")
    ids = [f"r{n}" for n in told]
    assert {each.ruling for each in again.report("kinds", [1] * len(ids), ids)} == {"duplicate"}
    assert works(again, "after")
    again.close()
