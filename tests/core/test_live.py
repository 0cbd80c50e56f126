"""Live accuracy follows a fall and keeps still otherwise; routing follows what is certain."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from gearshift.core.live import (
    CANARY_LABELS,
    LEAST_LABELS,
    WINDOW,
    Estimate,
    Kind,
    Labelled,
    Verdict,
    below_all,
    estimate,
    fallen,
    kind_of,
    shrunk,
    verdict,
)

SCORED = ("roc_auc", "average_precision", "recall_at_specificity_0.95")


def flags(rng: random.Random, share: float, rows: int) -> list[Labelled]:
    return [Labelled(0.0 if rng.random() < share else 1.0, 0, 1.0) for _ in range(rows)]


def scored(rng: random.Random, shift: float, rows: int) -> list[Labelled]:
    found = []
    for _ in range(rows):
        positive = rng.random() < 0.3
        found.append(Labelled(rng.gauss(shift if positive else 0.0, 1.0), int(positive), 1.0))
    return found


def of(metric: str, rows: list[Labelled]) -> Estimate:
    found = estimate(metric, rows)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        ("top1", Kind.CLASS),
        ("roc_auc", Kind.SCORE),
        ("average_precision", Kind.SCORE),
        ("recall_at_specificity_0.999", Kind.SCORE),
        ("recall_at_specificity_1.5", None),
        ("recall_at_specificity_x", None),
        ("rank1", None),
        ("tar_at_far_0.001", None),
    ],
)
def test_which_metrics_labels_of_single_rows_speak_about(metric: str, kind: Kind | None) -> None:
    assert kind_of(metric) is kind
    if kind is None:
        assert estimate(metric, flags(random.Random(0), 0.9, 100)) is None


LABELLED = st.lists(
    st.builds(
        Labelled,
        st.integers(0, 8).map(float),
        st.integers(0, 1),
        st.integers(1, 9).map(float),
    ),
    min_size=40,
    max_size=90,
).filter(lambda rows: 10 <= sum(row.label for row in rows) <= len(rows) - 10)


@settings(max_examples=40)
@given(LABELLED)
def test_values_are_those_of_scikit_learn(rows: list[Labelled]) -> None:
    for metric, reference in (
        ("roc_auc", roc_auc_score),
        ("average_precision", average_precision_score),
    ):
        found = of(metric, rows)
        answers, labels, weights = zip(*rows[-found.labels :], strict=True)
        expected = reference(labels, answers, sample_weight=weights)
        assert found.value == pytest.approx(expected)
        assert found.low <= found.value <= found.high
        assert found.error > 0


@settings(max_examples=40)
@given(LABELLED)
def test_recall_is_read_off_the_roc_curve(rows: list[Labelled]) -> None:
    found = of("recall_at_specificity_0.8", rows)
    answers, labels, weights = zip(*rows[-found.labels :], strict=True)
    alarms, recalls, _ = roc_curve(labels, answers, sample_weight=weights, drop_intermediate=False)
    assert found.value == pytest.approx(recalls[alarms <= 0.2 + 1e-9].max())
    assert found.low <= found.value <= found.high


def test_too_few_rows_say_nothing() -> None:
    rng = random.Random(0)
    assert estimate("top1", flags(rng, 0.9, LEAST_LABELS - 1)) is None
    assert estimate("top1", flags(rng, 0.9, LEAST_LABELS)) is not None
    one_sided = [Labelled(0.5, 0, 1.0)] * 100 + [Labelled(0.7, 1, 1.0)] * 9
    assert estimate("roc_auc", one_sided) is None
    assert estimate("roc_auc", [*one_sided, Labelled(0.7, 1, 1.0)]) is not None


@pytest.mark.parametrize("metric", ["top1", *SCORED])
def test_a_sudden_fall_shows_within_a_few_hundred_labels(metric: str) -> None:
    make, good, bad = (flags, 0.95, 0.75) if metric == "top1" else (scored, 2.5, 0.8)
    for seed in range(5):
        rng = random.Random(seed)
        before = make(rng, good, WINDOW)
        rows = [*before, *make(rng, bad, 300)][-WINDOW:]
        found = of(metric, rows)
        assert found.labels <= 420, metric
        assert fallen(of(metric, before).low, found)


@pytest.mark.parametrize("metric", ["top1", *SCORED])
def test_nothing_is_dropped_while_nothing_changes(metric: str) -> None:
    make, good = (flags, 0.95) if metric == "top1" else (scored, 2.0)
    kept = looks = 0
    for seed in range(5):
        rows = make(random.Random(seed), good, 1_500)
        for end in range(300, 1_500, 150):
            looks += 1
            kept += of(metric, rows[:end]).labels == end
    assert kept >= looks - 1


accuracies = st.floats(0, 1)


@given(accuracies, accuracies, st.floats(1e-4, 0.5))
def test_routing_moves_towards_the_live_value_and_never_beyond(
    card: float, live: float, error: float
) -> None:
    moved = shrunk(card, live, error)
    assert min(card, live) - 1e-12 <= moved <= max(card, live) + 1e-12
    if abs(live - card) <= 3 * error:
        assert moved == card
    assert abs(moved - card) <= abs(shrunk(card, live, error / 2) - card) + 1e-12


def test_what_cannot_be_chance_moves_nearly_all_of_the_way() -> None:
    assert shrunk(0.95, 0.75, 0.02) == pytest.approx(0.75, abs=0.003)
    assert 0.90 < shrunk(0.95, 0.89, 0.019) < 0.95
    assert shrunk(0.95, 0.95, 0.0) == 0.95


LOW = 0.945
"""Of the interval of a card that says 0.95."""


def test_a_few_labels_never_swing_the_routing() -> None:
    """Not once in a hundred windows of thirty labels, and never far."""
    moved = 0
    for seed in range(500):
        found = of("top1", flags(random.Random(seed), 0.95, LEAST_LABELS))
        moved += shrunk(0.95, found.value, found.error) != 0.95
    assert moved <= 5


def looked_at_again_and_again(seed: int, share: float) -> Verdict:
    """The verdict about a canary whose card says 0.95, asked every 20 labels."""
    rng = random.Random(seed)
    rows: list[Labelled] = []
    while len(rows) < 2 * WINDOW:
        rows += flags(rng, share, 20)
        said = verdict(LOW, estimate("top1", rows[-WINDOW:]))
        if said is not Verdict.UNDECIDED:
            assert len(rows) >= CANARY_LABELS
            return said
    return Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("share", "expected"), [(0.95, Verdict.PROMOTED), (0.88, Verdict.WITHDRAWN)]
)
def test_a_canary_gets_the_right_verdict_however_often_it_is_looked_at(
    share: float, expected: Verdict
) -> None:
    said = [looked_at_again_and_again(seed, share) for seed in range(40)]
    assert said.count(expected) >= 39
    assert said.count(Verdict.UNDECIDED) + said.count(expected) == len(said)


def test_whether_a_value_is_surely_below_depends_on_how_far_up_it_may_be() -> None:
    """Of fraud: rows that nobody looked into can only make an average precision worse."""
    halved = Estimate(0.52, 0.17, 0.60, WINDOW)
    assert halved.error_towards(0.8) == pytest.approx(0.08 / 1.96, rel=1e-3)
    assert halved.error_towards(0.1) == pytest.approx(0.35 / 1.96, rel=1e-3)
    assert fallen(0.73, halved)
    assert not fallen(0.64, halved)
    low = 0.50  # of the card's interval
    assert verdict(low, halved) is Verdict.PROMOTED  # the window is full
    assert verdict(low, replace(halved, labels=WINDOW - 1)) is Verdict.UNDECIDED


def payments(rng: random.Random, rows: int, *, sound: bool) -> list[Labelled]:
    """Of each fraud it is known, of the others some stand for many."""
    found = []
    for _ in range(rows):
        label = int(rng.random() < 0.07)
        score = rng.gauss(4.5 * label if sound else 0.0, 1.0)
        found.append(Labelled(score, label, 1.0 if label else rng.choice((1.0, 130.0))))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_what_broke_behind_a_full_window_is_seen_and_not_forgotten_again(seed: int) -> None:
    """As soon as it is out its labels run dry: whoever went back and forth would let it in."""
    rng = random.Random(seed)
    before = payments(rng, WINDOW, sound=True)
    after = payments(rng, 500, sound=False)
    seen = []
    for rows in range(25, 501, 25):
        found = estimate("average_precision", [*before, *after[:rows]][-WINDOW:])
        assert found is not None
        seen.append(fallen(0.6, found))
    assert sum(seen) >= 8
    assert seen == sorted(seen)


def test_no_verdict_without_enough_labels() -> None:
    few = Estimate(0.1, 0.05, 0.2, CANARY_LABELS - 1)
    assert verdict(LOW, None) is Verdict.UNDECIDED
    assert verdict(LOW, few) is Verdict.UNDECIDED
    enough = Estimate(0.1, 0.05, 0.2, CANARY_LABELS)
    assert verdict(LOW, enough) is Verdict.WITHDRAWN


def test_a_full_window_that_cannot_get_more_certain_decides() -> None:
    wide = Estimate(0.94, 0.84, 0.99, WINDOW)
    assert verdict(LOW, wide) is Verdict.PROMOTED
    assert verdict(LOW, Estimate(0.94, 0.84, 0.99, WINDOW - 1)) is Verdict.UNDECIDED
    assert verdict(LOW, Estimate(0.85, 0.77, 0.93, WINDOW)) is Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("floors", "card", "used", "expected"),
    [
        ((0.9, 0.95), 0.96, 0.89, True),
        ((0.9, 0.95), 0.96, 0.92, False),
        # A floor that it never reached is none that it fell below.
        ((0.9, 0.99), 0.96, 0.92, False),
        ((0.99,), 0.96, 0.5, False),
        # No floor, nothing to be below of.
        ((0.0, -math.inf), 0.96, 0.1, False),
        ((), 0.96, 0.1, False),
    ],
)
def test_below_all_floors_that_the_card_reaches(floors, card, used, expected):
    assert below_all(floors, card, used) is expected
