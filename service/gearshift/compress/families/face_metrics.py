"""How well embeddings tell people apart: identification and verification, in plain NumPy.

Embeddings are [n, d], of any length: only the cosine of two of them counts. Labels [n] name the
person. Intervals are percentile bootstraps over people: the pictures of one person succeed and
fail together, so drawing pictures would promise more than was seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Embeddings = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Metric = Callable[[Labels, Embeddings], "Share"]

ROUNDS = 1_000


@dataclass(frozen=True, slots=True)
class Share:
    """A share of trials with its 95 % interval; `n` is the number of trials."""

    value: float
    low: float
    high: float
    n: int


def cosines(embeddings: Embeddings) -> Values:
    """The cosine of every pair of embeddings: [n, n]."""
    wide = np.asarray(embeddings, np.float64)
    if not np.isfinite(wide).all():
        raise ValueError("embeddings hold NaN or infinite values")
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = wide / np.maximum(lengths, np.finfo(np.float64).tiny)
    return np.asarray(unit @ unit.T)


def rank1(labels: Labels, embeddings: Embeddings, *, rounds: int = ROUNDS, seed: int = 0) -> Share:
    """One-shot identification: the share of probes whose most similar gallery picture is theirs.

    The gallery holds one picture a person. A trial is an ordered pair of different pictures
    (g, p) of one person: g is that person's only gallery picture, and p is recognized when it
    is more similar to g than to the gallery picture of anybody else. Which picture that is for
    the others is averaged over exactly: each of the others' pictures is their gallery picture
    with equal chance, independently, so a trial counts the product over the other people of
    the share of their pictures that are less similar to p than g is; an equally similar one
    counts against it. The value is the mean over all trials; the interval redraws the probes'
    people and leaves the gallery whole.
    """
    similar = cosines(embeddings)
    people, own = np.unique(labels, return_inverse=True)
    if len(people) < 2:
        raise ValueError("one person cannot be mistaken for another: rank-1 needs two")
    sums, counts = np.zeros(len(people)), np.zeros(len(people))
    columns = [np.sort(similar[:, labels == person], axis=1) for person in people]
    for probe, person in enumerate(own):
        mates = np.flatnonzero((own == person) & (np.arange(len(own)) != probe))
        chance = np.ones(len(mates))
        for other, ranked in enumerate(columns):
            if other != person:
                below = np.searchsorted(ranked[probe], similar[probe, mates], side="left")
                chance *= below / ranked.shape[1]
        sums[person] += chance.sum()
        counts[person] += len(mates)
    if not counts.sum():
        raise ValueError("nobody has two pictures: there is nothing to recognize")
    draws = _draws(len(people), rounds, seed)
    low, high = _interval((draws @ sums) / np.maximum(draws @ counts, 1e-300))
    return Share(float(sums.sum() / counts.sum()), low, high, int(counts.sum()))


def tar_at_far(far: float) -> Metric:
    """Verification: the share of pairs of one person above the threshold that lets `far` through.

    The threshold is the lowest cosine at which at most the share `far` of all pairs of two
    people is accepted (accepted means above it). Pairs are unordered. The interval redraws
    people, threshold included: a pair weighs the product of how often its people were drawn.
    """
    if not 0.0 < far < 1.0:
        raise ValueError(f"a false acceptance rate of {far} is none")

    def metric(
        labels: Labels, embeddings: Embeddings, *, rounds: int = ROUNDS, seed: int = 0
    ) -> Share:
        similar = cosines(embeddings)
        people, own = np.unique(labels, return_inverse=True)
        first, second = np.triu_indices(len(labels), k=1)
        same = own[first] == own[second]
        genuine, impostor = similar[first[same], second[same]], similar[first[~same], second[~same]]
        if not genuine.size or not impostor.size:
            raise ValueError("verification needs pairs of one person and of two")
        order = np.argsort(-impostor, kind="stable")
        # Only the most similar pairs of two people can be a threshold: the others need no sorting
        # in every round.
        impostor = impostor[order]
        one, other = own[first[~same]][order], own[second[~same]][order]
        mine = own[first[same]]

        def at(times: Values) -> float:
            weights = times[one] * times[other]
            cumulated = np.cumsum(weights)
            cut = int(np.searchsorted(cumulated, far * cumulated[-1] * (1 + 1e-12), side="right"))
            accepted = genuine > impostor[min(cut, len(impostor) - 1)]
            return float(np.average(accepted, weights=times[mine]))

        draws = _draws(len(people), rounds, seed)
        usable = [draw for draw in draws if np.count_nonzero(draw) > 1]
        low, high = _interval(np.array([at(draw) for draw in usable]))
        return Share(at(np.ones(len(people))), low, high, int(genuine.size))

    return metric


def _draws(people: int, rounds: int, seed: int) -> Values:
    """How often each person is drawn, with replacement, in each round: [rounds, people]."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(people, np.full(people, 1 / people), rounds).astype(np.float64)


def _interval(values: Values) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
