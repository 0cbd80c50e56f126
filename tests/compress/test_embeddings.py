"""Identification and verification against counting by hand, and their intervals."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from gearshift.compress.embeddings import rank1, tar_at_far


def clouds(people: int, pictures: int, spread: float, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Labels and embeddings: a direction a person, and each picture beside it."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(people), pictures)
    centres = rng.normal(size=(people, 6))
    return labels, centres[labels] + spread * rng.normal(size=(len(labels), 6))


def unit(embeddings: np.ndarray) -> np.ndarray:
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def counted_rank1(labels: np.ndarray, embeddings: np.ndarray) -> float:
    """Every gallery of one picture a person, every probe: the definition, word for word."""
    cosines = unit(embeddings) @ unit(embeddings).T
    people = np.unique(labels)
    right = []
    for gallery in product(*(np.flatnonzero(labels == person) for person in people)):
        for probe in range(len(labels)):
            own = gallery[labels[probe]]
            if probe != own:
                others = [cosines[probe, g] for g in gallery if g != own]
                right.append(cosines[probe, own] > max(others))
    return float(np.mean(right))


@pytest.mark.parametrize("spread", [0.3, 0.9, 3.0])
def test_rank1_averages_over_every_gallery(spread: float) -> None:
    labels, embeddings = clouds(4, 3, spread)
    assert rank1(labels, embeddings).value == pytest.approx(counted_rank1(labels, embeddings))


def test_rank1_counts_every_ordered_pair_of_one_person() -> None:
    labels, embeddings = clouds(5, 4, 0.5)
    assert rank1(labels, embeddings).n == 5 * 4 * 3


def test_perfect_and_useless_embeddings() -> None:
    labels, embeddings = clouds(10, 4, 1e-3)
    assert rank1(labels, embeddings).value == 1.0
    assert tar_at_far(0.01)(labels, embeddings).value == 1.0
    noise = np.random.default_rng(3).normal(size=embeddings.shape)
    assert rank1(labels, noise).value < 0.35
    assert tar_at_far(0.01)(labels, noise).value < 0.2


def test_equal_embeddings_recognize_nobody() -> None:
    labels, embeddings = clouds(4, 3, 0.1)
    same = np.ones_like(embeddings)
    assert rank1(labels, same).value == 0.0
    assert tar_at_far(0.01)(labels, same).value == 0.0


def test_the_threshold_lets_through_no_more_than_was_asked() -> None:
    labels, embeddings = clouds(8, 5, 0.8)
    cosines = unit(embeddings) @ unit(embeddings).T
    pairs = list(combinations(range(len(labels)), 2))
    impostors = sorted((cosines[p] for p in pairs if labels[p[0]] != labels[p[1]]), reverse=True)
    genuine = np.array([cosines[p] for p in pairs if labels[p[0]] == labels[p[1]]])
    for far in (0.001, 0.02, 0.25):
        allowed = int(far * len(impostors))
        expected = float((genuine > impostors[allowed]).mean())
        found = tar_at_far(far)(labels, embeddings)
        assert found.value == pytest.approx(expected)
        assert found.n == len(genuine)


def test_length_does_not_count() -> None:
    labels, embeddings = clouds(6, 4, 0.7)
    stretched = embeddings * np.random.default_rng(1).uniform(0.1, 50, (len(labels), 1))
    assert rank1(labels, stretched).value == pytest.approx(rank1(labels, embeddings).value)
    metric = tar_at_far(0.05)
    assert metric(labels, stretched).value == pytest.approx(metric(labels, embeddings).value)


@pytest.mark.parametrize("metric", [rank1, tar_at_far(0.01)])
def test_intervals_hold_the_value_and_repeat(metric: object) -> None:
    labels, embeddings = clouds(12, 4, 0.8)
    first, second = (metric(labels, embeddings, rounds=200) for _ in range(2))  # type: ignore[operator]
    assert first == second
    assert 0.0 <= first.low < first.value < first.high <= 1.0


def test_intervals_are_over_people_not_pictures() -> None:
    # One person of five is never recognized: draws of people hold that person 0 to 3 times.
    labels = np.repeat(np.arange(5), 20)
    embeddings = np.eye(6)[labels]
    embeddings[labels == 4] = np.eye(6)[5] * np.where(np.arange(20) % 2, 1, -1)[:, None]
    share = rank1(labels, embeddings)
    assert share.value > 0.8
    assert share.high - share.low > 0.2


def test_broken_input_is_refused() -> None:
    labels, embeddings = clouds(3, 3, 0.5)
    with pytest.raises(ValueError, match="NaN"):
        rank1(labels, np.where(embeddings > 0, np.nan, embeddings))
    with pytest.raises(ValueError, match="needs two"):
        rank1(np.zeros(9, np.int64), embeddings)
    with pytest.raises(ValueError, match="two pictures"):
        rank1(np.arange(9), embeddings)
    with pytest.raises(ValueError, match="pairs of one person"):
        tar_at_far(0.1)(np.arange(9), embeddings)
    with pytest.raises(ValueError, match="false acceptance"):
        tar_at_far(0.0)
