"""From labels to what routing goes by: found again after a restart, and by everybody alike."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from gearshift.core.card import Measurement
from gearshift.core.live import LEAST_LABELS

SMALL = ("kinds", "small")


def label(place, share: float, rows: int, prefix: str, variant: str = "small", seed=0) -> None:
    """Answers of which this share turns out to be right."""
    rng = random.Random(seed)
    ids = [f"{prefix}{n}" for n in range(rows)]
    place.answer("kinds", [1] * rows, ids, variant=variant)
    place.report("kinds", [1 if rng.random() < share else 2 for _ in ids], ids)


@pytest.fixture
def place(at):
    return at(rows=100_000)


def test_without_labels_routing_goes_by_the_card(place):
    place.learner.look(0.0)
    assert place.book.standings[SMALL].used == 0.80
    assert place.book.standings[SMALL].live is None
    assert ("faces", "small") not in place.book.standings
    assert place.told == []


def test_labels_that_agree_with_the_card_change_nothing(place):
    label(place, 0.80, 400, "a")
    place.learner.look(0.0)
    standing = place.book.standings[SMALL]
    assert standing.live.value == pytest.approx(0.80, abs=0.05)
    assert standing.live.labels == 400
    assert standing.used == 0.80
    assert not standing.fallen
    assert place.told == []


def test_a_fall_is_followed_told_once_and_so_is_the_recovery(place):
    place.learner.look(0.0)
    label(place, 0.5, 300, "a")
    with capture_logs() as logs:
        place.learner.look(1.0)
        place.learner.look(2.0)
        label(place, 0.5, 50, "b")
        place.learner.look(3.0)
    (warned,) = logs
    assert warned["log_level"] == "warning"
    assert (warned["model"], warned["variant"], warned["card"]) == ("kinds", "small", 0.8)
    assert warned["low"] < warned["live"] < warned["high"] < 0.8
    assert warned["labels"] == 300
    (model, used), *_ = place.told
    assert (model, used["large"]) == ("kinds", 0.95)
    assert used["small"] == pytest.approx(0.5, abs=0.08)
    assert place.book.standings[SMALL].fallen
    label(place, 0.85, 1_200, "c", seed=1)
    with capture_logs() as logs:
        place.learner.look(4.0)
    assert [log["log_level"] for log in logs] == ["info"]
    assert not place.book.standings[SMALL].fallen
    assert place.told[-1][1]["small"] == pytest.approx(0.85, abs=0.06)


def test_a_restart_and_another_replica_find_the_same(at):
    one, other = at(rows=100_000), at(rows=100_000)
    one.learner.look(0.0)
    other.learner.look(0.0)
    for part in range(4):
        label(one if part % 2 else other, 0.6, 150, f"p{part}", seed=part)
        one.learner.look(1.0)
    other.learner.look(1.0)
    later = at(rows=100_000)
    later.learner.look(0.0)
    assert one.book.standings == other.book.standings == later.book.standings
    assert one.book.standings[SMALL].live.labels == 600
    assert later.told[-1] == one.told[-1]


def test_a_replaced_file_begins_anew(at):
    before, after = at(rows=100_000), at(rows=100_000)
    label(before, 0.5, 200, "old")
    model = after.catalog.model("kinds")
    new = replace(
        model,
        variants=tuple(replace(v, artifact_sha256="new") for v in model.variants),
    )
    after.learner._models[0] = new
    after.learner.look(0.0)
    assert after.book.standings[SMALL].live is None


def test_scores_are_judged_by_their_metric(place):
    rng = random.Random(3)
    labels = [int(rng.random() < 0.3) for _ in range(400)]
    scores = [0.6 * label + 0.4 * rng.random() for label in labels]
    ids = [f"s{n}" for n in range(400)]
    place.answer("risk", scores, ids)
    place.report("risk", labels, ids, weight=3.0)
    place.learner.look(0.0)
    assert place.book.standings["risk", "small"].live.value == pytest.approx(1.0)
    assert place.told[-1][1]["small"] > 0.9


def test_too_few_labels_say_nothing(place):
    label(place, 0.0, LEAST_LABELS - 1, "a")
    place.learner.look(0.0)
    assert place.book.standings[SMALL].live is None
    assert place.told == []


def test_a_database_that_fails_leaves_what_was_known(place, monkeypatch):
    label(place, 0.5, 200, "a")
    place.learner.look(0.0)
    known = place.book.standings

    def broken(*_):
        raise OperationalError("SELECT", {}, Exception("away"))

    monkeypatch.setattr(place.store, "changed", broken)
    with capture_logs() as logs:
        for moment in range(5):
            place.learner.look(float(moment))
    assert len(logs) == 1
    assert place.learner._retry.pause == 16.0
    assert place.book.standings is known
    monkeypatch.undo()
    label(place, 0.5, 50, "b")
    place.learner.look(9.0)
    assert place.learner._retry.pause == 0.0
    assert place.book.standings[SMALL].live.labels == 250


def test_shadow_runs_and_labels_give_an_accuracy(place):
    rng = random.Random(5)
    ids = [f"x{n}" for n in range(400)]
    place.answer("kinds", [1] * 400, ids)
    # The reference is right in 95 of 100; small in about 80.
    truth = [1 if rng.random() < 0.8 else 2 for _ in ids]
    said = [true if rng.random() < 0.95 else 3 for true in truth]
    place.recorder.shadowed(place.batch("kinds", said, ids, variant="large"))
    place.recorder.write()
    place.report("kinds", truth[:100], ids[:100])
    place.learner.look(0.0)
    found = place.book.shadow_accuracy[SMALL]
    assert found.labels == 100
    assert found.low < sum(t == 1 for t in truth) / 400 < found.high


def with_cards(place) -> None:
    """Both variants of `kinds` were measured as they are declared."""
    model = place.learner._models[0]
    cards = {
        v.name: Measurement(
            metric="top1",
            value=v.accuracy,
            n=10_000,
            low=v.accuracy - 0.01,
            high=v.accuracy + 0.01,
            method="",
        )
        for v in model.variants
    }
    variants = tuple(
        replace(v, card=SimpleNamespace(accuracy=cards[v.name])) for v in model.variants
    )
    place.learner._models[0] = replace(model, variants=variants)


@pytest.mark.parametrize(("share", "expected"), [(0.8, "promoted"), (0.6, "withdrawn")])
def test_a_canary_is_decided_once_and_for_good(at, share, expected):
    def watched(canaries) -> tuple:
        place, said = at(rows=100_000), []
        with_cards(place)
        place.learner._undecided = set(canaries)
        place.learner._on_verdict = lambda *verdict: said.append(verdict)
        return place, said

    place, said = watched([SMALL])
    label(place, share, 299, "a")
    place.learner.look(0.0)
    assert said == []
    label(place, share, 1_701, "b", seed=1)
    place.learner.look(1.0)
    label(place, 0.1, 500, "c")
    place.learner.look(2.0)
    assert said == [("kinds", "small", expected)]
    later, said = watched([SMALL, ("kinds", "large")])
    later.learner.look(0.0)
    assert said == [("kinds", "small", expected)]


def test_the_thread_looks_by_itself(place, monkeypatch):
    moved = threading.Event()
    monkeypatch.setattr(place.learner, "_on_change", lambda model, used: moved.set())
    label(place, 0.5, 200, "a")
    place.learner.start()
    assert moved.wait(20)
    place.learner.close(10)
    assert not place.learner._thread.is_alive()
