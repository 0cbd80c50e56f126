"""The mails of `transfer`: MiniLM, the same network from scratch, and TF-IDF."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gearshift.compress.dataset import Part
from gearshift.compress.families import text_data, text_net, text_train
from gearshift.compress.families.text_data import INPUT
from gearshift.compress.families.text_net import Classifier, Encoder, Shape
from gearshift.compress.made import Report
from gearshift.compress.studies.toy import some
from gearshift.compress.studies.transfer import FROZEN, SCRATCH, TUNED, Count, Target
from gearshift.compress.studies.transfer_runs import few, linear

Labels = npt.NDArray[np.int64]

PIECES = "TF-IDF of the same tokens, linear"
WHOLE = "TF-IDF of the whole mails, linear"
PAIRS = ((TUNED, SCRATCH), (TUNED, PIECES), (TUNED, WHOLE))
INVERSE_PENALTY = 100.0
"""The regularization of logistic regression on TF-IDF, chosen on calibration rows."""
PLACE = "place"
"""The array that says which text belongs to a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is computed. All networks of one count get the same rows as often."""

    counts: Sequence[int]
    steps: int
    """About so many with few labels; with all labels it is one pass over them."""
    tokens: int
    tuned_rate: float
    scratch_rate: float
    batch: int = 16

    def schedule(self, rows: int, rate: float, frozen: int) -> text_train.Schedule:
        """The same number of steps for every arm."""
        epochs = max(1, round(self.steps / math.ceil(rows / self.batch)))
        return text_train.Schedule(
            epochs=epochs, peak_rate=rate, batch=self.batch, tokens=self.tokens, frozen=frozen
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Rows of tokens, and the text of the mail behind each."""

    training: Part
    evaluation: Part
    training_texts: Sequence[str]
    evaluation_texts: Sequence[str]


PLAN = Plan(counts=(20, 100), steps=40, tokens=64, tuned_rate=1e-4, scratch_rate=3e-4)
MEASURED = 800
"""Held-out mails that every arm is measured on: with all of them measuring would take longer
than learning."""


def mails(cache: Path, seeds: Sequence[int], report: Report) -> Target:
    """Spam or ham, learned from 20 labels a class, from 100, and from all."""
    data = text_data.spam(cache, report)
    training, _, evaluation = text_data.spam_mails(cache, report)
    asked = some(_placed(data.evaluation), MEASURED, 0)
    corpus = Corpus(
        training=_placed(data.training),
        evaluation=asked,
        training_texts=[mail.text for mail in training],
        evaluation_texts=[evaluation[place].text for place in asked.inputs[PLACE]],
    )
    encoder = text_net.minilm(cache, report)
    return run(corpus, encoder, PLAN, seeds, report, backbone="MiniLM's own corpora of text pairs")


def toy(seeds: Sequence[int], report: Report) -> Target:
    """Made-up words, and a network that has learned nothing."""
    generator = np.random.default_rng(0)
    labels = np.arange(40, dtype=np.int64) % 2
    ids = 200 + 2 * generator.integers(0, 20, (40, 6)) + labels[:, np.newaxis]
    part = _placed(Part({INPUT: ids.astype(np.int64)}, labels))
    texts = [" ".join(map(str, row)) for row in ids]
    corpus = Corpus(training=part, evaluation=part, training_texts=texts, evaluation_texts=texts)
    encoder = Encoder(Shape(layers=1, width=12, heads=1, inner=24, words=300, tokens=6))
    plan = Plan(counts=(4,), steps=2, tokens=6, tuned_rate=1e-4, scratch_rate=1e-3, batch=4)
    return run(corpus, encoder, plan, seeds, report, backbone="nothing")


def run(
    corpus: Corpus,
    encoder: Encoder,
    plan: Plan,
    seeds: Sequence[int],
    report: Report,
    *,
    backbone: str,
) -> Target:
    """Every arm at every number of labels; at all labels the networks are trained once."""
    torch.set_num_threads(1)
    report("mails: what the pretrained layers say of each")
    frozen = [_embedded(encoder, part, plan) for part in (corpus.training, corpus.evaluation)]
    classes = len(np.unique(corpus.training.labels))
    counts = [
        _count(corpus, encoder, frozen, plan, labels, seeds, report) for labels in plan.counts
    ]
    every = len(corpus.training)
    found = _count(corpus, encoder, frozen, plan, every, seeds[:1], report)
    counts.append(Count(every // classes, found.values, every=True))
    return Target(
        name="Mails, spam or ham",
        backbone=backbone,
        classes=classes,
        n=len(corpus.evaluation),
        unit="mails",
        counts=counts,
        pairs=PAIRS,
        method=(
            f"Mails: MiniLM (six layers) on the first {plan.tokens} tokens of each, the published "
            f"`text` model has {text_data.TOKENS}; about {plan.steps} steps of AdamW with batches "
            f"of {plan.batch}, with all labels one pass over them, which for a network from "
            "scratch is little. The pretrained network keeps its word embeddings and has the "
            f"published model's rate ({plan.tuned_rate:g}); from scratch all is learned, at the "
            f"best rate of three on calibration rows ({plan.scratch_rate:g}). With all labels "
            "there is one seed: no interval. TF-IDF counts word pieces of the same tokens "
            "and pairs of neighbours, or the words of the whole mails; logistic regression on "
            "either, its regularization and whether pairs help chosen on calibration rows. The "
            "labels drawn are as many of spam as of ham; among the held-out mails they are as "
            "they come."
        ),
    )


def _count(
    corpus: Corpus,
    encoder: Encoder,
    frozen: Sequence[npt.NDArray[np.float32]],
    plan: Plan,
    labels: int,
    seeds: Sequence[int],
    report: Report,
) -> Count:
    found: dict[str, list[float]] = {arm: [] for arm in (SCRATCH, TUNED, FROZEN, PIECES, WHOLE)}
    asked = corpus.evaluation
    for seed in seeds:
        rows = few(corpus.training, labels, seed)
        places = rows.inputs[PLACE]
        report(f"mails: {len(rows)} labels, seed {seed}")
        own = plan.schedule(len(rows), plan.scratch_rate, 0)
        found[SCRATCH].append(network(_untrained(encoder.shape, seed), rows, asked, own, seed))
        given = plan.schedule(len(rows), plan.tuned_rate, 1)
        found[TUNED].append(network(copy.deepcopy(encoder), rows, asked, given, seed))
        found[FROZEN].append(linear(frozen[0][places], rows, frozen[1], asked))
        found[PIECES].append(
            words(_pieces(rows, plan), rows.labels, _pieces(asked, plan), asked.labels, pairs=True)
        )
        texts = [corpus.training_texts[place] for place in places]
        found[WHOLE].append(words(texts, rows.labels, corpus.evaluation_texts, asked.labels))
        report("  " + ", ".join(f"{arm} {values[-1]:.4f}" for arm, values in found.items()))
    return Count(labels, dict(found))


def network(
    body: Encoder, rows: Part, asked: Part, schedule: text_train.Schedule, seed: int
) -> float:
    """The accuracy of a classifier on `body`, learned from `rows`, the head from scratch."""
    torch.manual_seed(seed)
    net = Classifier(body)
    ids, labels = _ids(rows), torch.from_numpy(rows.labels)
    text_train.fine_tune(net, ids, labels, schedule, seed=seed, report=lambda line: None)
    measured = _ids(asked)[:, : schedule.tokens]
    return text_train.accuracy(net, measured, torch.from_numpy(asked.labels))


def words(
    known: Sequence[str],
    labels: Labels,
    asked: Sequence[str],
    truth: Labels,
    *,
    pairs: bool = False,
) -> float:
    """The accuracy of logistic regression on TF-IDF of words (and pairs of neighbours)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    counted = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2 if pairs else 1))
    model = make_pipeline(counted, LogisticRegression(C=INVERSE_PENALTY, max_iter=1_000))
    model.fit(known, labels)
    return float((model.predict(asked) == truth).mean())


def _untrained(shape: Shape, seed: int) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(shape)


def _placed(part: Part) -> Part:
    """`part` with each row's place in it, so that rows drawn later still know their text."""
    return Part({INPUT: part.inputs[INPUT], PLACE: np.arange(len(part))}, part.labels)


def _ids(part: Part) -> Tensor:
    return torch.from_numpy(part.inputs[INPUT].astype(np.int64))


def _pieces(part: Part, plan: Plan) -> list[str]:
    """The tokens of each row that the networks see, as words made of their numbers."""
    return [" ".join(map(str, row)) for row in part.inputs[INPUT][:, : plan.tokens]]


def _embedded(encoder: Encoder, part: Part, plan: Plan) -> npt.NDArray[np.float32]:
    """The mean over the tokens of each row, by the pretrained layers as they are."""
    torch.manual_seed(0)  # The head is drawn at random, and not asked.
    lessons = text_train.lessons_of(Classifier(encoder), _ids(part)[:, : plan.tokens])
    embeddings: npt.NDArray[np.float32] = lessons.embeddings.numpy()
    return embeddings
