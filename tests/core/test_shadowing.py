"""Agreement with a reference that errs itself, corrected by a few labels."""

from __future__ import annotations

import random

import pytest

from gearshift.core.live import Estimate
from gearshift.core.shadowing import Shadows, accuracy

SHARE = 0.9
"""Of right answers of the variant that is shadowed."""


def draw(seed: int, reference: float, unlabelled: int, labels: int) -> Shadows:
    """A variant that is right in SHARE, a reference right in `reference`, their mistakes apart."""
    rng = random.Random(seed)
    cells = {(agree, right): 0.0 for agree in (False, True) for right in (False, True)}
    agreed = 0
    for row in range(unlabelled + labels):
        right, told = rng.random() < SHARE, rng.random() < reference
        # Two wrong answers are the same one half of the time.
        agree = right == told and (right or rng.random() < 0.5)
        if row < unlabelled:
            agreed += agree
        else:
            cells[agree, right] += 1
    return Shadows(
        unlabelled=unlabelled,
        unlabelled_agree=agreed,
        agree_right=cells[True, True],
        agree_wrong=cells[True, False],
        differ_right=cells[False, True],
        differ_wrong=cells[False, False],
        labels=labels,
        squares=labels,
    )


def of(shadows: Shadows) -> Estimate:
    found = accuracy(shadows)
    assert found is not None
    return found


@pytest.mark.parametrize("reference", [1.0, 0.95, 0.5])
def test_the_truth_is_covered_whatever_the_reference_is_worth(reference: float) -> None:
    found = [of(draw(seed, reference, 2_000, 150)) for seed in range(400)]
    assert sum(each.low <= SHARE <= each.high for each in found) >= 0.92 * len(found)
    assert sum(each.value for each in found) / len(found) == pytest.approx(SHARE, abs=0.005)


def test_a_good_reference_is_worth_many_labels() -> None:
    alone, helped = (of(draw(1, 0.99, unlabelled, 150)) for unlabelled in (30, 20_000))
    assert helped.high - helped.low < 0.7 * (alone.high - alone.low)


def test_weights_count() -> None:
    even = draw(2, 0.95, 1_000, 100)
    doubled = Shadows(
        unlabelled=even.unlabelled,
        unlabelled_agree=even.unlabelled_agree,
        agree_right=even.agree_right * 2,
        agree_wrong=even.agree_wrong * 2,
        differ_right=even.differ_right * 2,
        differ_wrong=even.differ_wrong * 2,
        labels=even.labels,
        squares=even.squares * 4,
    )
    assert of(doubled) == of(even)


def test_too_few_rows_say_nothing_and_no_mistake_yet_is_no_certainty() -> None:
    assert accuracy(draw(0, 1.0, 29, 100)) is None
    assert accuracy(draw(0, 1.0, 100, 29)) is None
    perfect = Shadows(
        unlabelled=100,
        unlabelled_agree=100,
        agree_right=30,
        agree_wrong=0,
        differ_right=0,
        differ_wrong=0,
        labels=30,
        squares=30,
    )
    assert of(perfect).value == 1.0
    assert of(perfect).low < 0.97
