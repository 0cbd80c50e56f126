"""Learning cascades: the fewest rows go on, and what is stated is no wishful thinking."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gearshift.cli.commands import app
from gearshift.compress import cascade_model
from gearshift.compress.cascade import Pair, choose, curve, learn
from onnx_models import blobs, classifier

SURE, UNSURE = 0.9, 0.4


def outputs_of(answers: np.ndarray, classes: int = 4) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[answers]


def pair_of(labels, first, then, sure, weights=None) -> Pair:
    return Pair(
        metric="top1",
        labels=labels,
        weights=np.ones(len(labels)) if weights is None else weights,
        first=outputs_of(first),
        then=outputs_of(then),
        sure=np.asarray(sure, np.float64),
    )


def honest(n: int = 2_000, seed: int = 0) -> Pair:
    """The first is right as often as it says; the second always."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, n)
    sure = generator.uniform(0.25, 1.0, n)
    right = generator.random(n) < sure
    return pair_of(labels, np.where(right, labels, (labels + 1) % 4), labels, sure)


def test_only_what_the_first_is_not_sure_of_goes_on():
    pair = honest()
    fit = learn(pair, within=0.05)
    assert fit is not None
    # Of rows above a threshold t (1 - t) / 2 are wrong: 5 % of all is reached where
    # (1 - t)^2 / 1.5 = 0.05, which is t = 0.73.
    assert fit.threshold == pytest.approx(0.73, abs=0.05)
    assert fit.escalated == pytest.approx((0.73 - 0.25) / 0.75, abs=0.06)
    assert fit.accuracy == pytest.approx(0.95, abs=0.01)
    assert fit.outputs.shape == pair.first.shape


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.01, 0.05, 0.2]))
def test_the_threshold_keeps_its_promise_on_the_rows_it_was_chosen_by(seed, within):
    generator = np.random.default_rng(seed)
    labels, first, then = generator.integers(0, 4, (3, 60))
    pair = pair_of(labels, first, then, np.round(generator.random(60), 1))
    threshold = choose(pair, within)
    if threshold is not None:
        assert 0.0 <= threshold <= 1.0
        assert pair.score(pair.answered(threshold)) >= pair.score(pair.then) - within


def test_a_wider_margin_sends_fewer_on():
    pair = honest()
    fits = [learn(pair, within) for within in (0.0, 0.01, 0.05, 0.2, 0.5)]
    shares = [1.0 if fit is None else fit.escalated for fit in fits]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0.0


def test_who_is_confidently_wrong_is_no_first():
    labels = np.arange(400) % 4
    pair = pair_of(labels, (labels + 1) % 4, labels, np.full(400, SURE))
    assert choose(pair, within=0.1) is None
    assert learn(pair, within=0.1) is None


def test_what_is_stated_is_not_what_was_chosen_by():
    """Among noise some threshold always looks good; on other rows it is not."""
    apart = []
    for seed in range(100):
        generator = np.random.default_rng(seed)
        labels, first, then = generator.integers(0, 2, (3, 100))
        pair = pair_of(labels, first, then, generator.random(100))
        fit = learn(pair, within=-0.05)
        if fit is not None:
            seen = pair.score(pair.answered(fit.threshold))
            apart.append((seen - pair.score(pair.then), fit.accuracy - pair.score(pair.then)))
    seen, stated = np.mean(apart, axis=0)
    assert len(apart) > 30
    assert seen >= 0.05
    assert stated < seen - 0.01


def test_rows_count_as_often_as_they_stand_for():
    labels = np.zeros(100, np.int64)
    sure = np.where(np.arange(100) < 10, UNSURE, SURE)
    first = np.where(np.arange(100) < 10, 1, 0)
    weights = np.where(np.arange(100) < 10, 9.0, 1.0)
    fit = learn(pair_of(labels, first, labels, sure, weights), within=0.0)
    assert fit is not None
    assert fit.escalated == pytest.approx(0.5)
    assert UNSURE < fit.threshold <= SURE


def test_the_curve_begins_with_the_first_alone():
    pair = honest()
    steps = curve(pair)
    assert (steps[0].threshold, steps[0].share) == (0.0, 0.0)
    assert steps[0].accuracy == pair.score(pair.first)
    assert [step.share for step in steps] == sorted(step.share for step in steps)
    assert steps[-1].accuracy > steps[0].accuracy


# --- the command -----------------------------------------------------------------------

MODEL_TOML = """
metric = "top1"
max_batch_size = 8
default_class = "default"

[classes.default]

[[variants]]
name = "large"
version = 1
executor = "onnx"
accuracy = 0.9

[[variants]]
name = "small"
version = 2
executor = "onnx"
accuracy = 0.8
"""
DECLARED = """
[[cascades]]
name = "both"
first = "small"
then = "large"
"""


SECONDS = {"large": 1e-3, "small": 1e-4}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # How long it really takes is this machine's business.
    monkeypatch.setattr(cascade_model, "_asking", lambda model, outputs, batch: batch * 2e-4)
    monkeypatch.setattr(
        cascade_model,
        "medians",
        lambda artifacts, inputs, batch: {name: batch * SECONDS[name] for name in artifacts},
    )
    model = tmp_path / "repo" / "blobs"
    classifier(model / "small" / "model.onnx", hidden=3)
    classifier(model / "large" / "model.onnx", hidden=500)
    rows, labels = blobs(600, seed=7)
    np.savez(model / "samples.npz", inputs=rows, labels=labels)
    (model / "model.toml").write_text(MODEL_TOML)
    return tmp_path / "repo"


def command(repository: Path, *options: str):
    cache = str(repository.parent / "cache")
    arguments = ["cascade", "blobs", "-r", str(repository), "--cache", cache, *options]
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)


def test_a_pair_is_tried_and_nothing_written(repository):
    told = command(repository, "--first", "small", "--then", "large", "--within", "1")
    assert told.exit_code == 0, told.output
    assert "samples.npz" in told.stdout
    assert re.search(r"0\.\d{4} .* chosen", told.stdout)
    assert '[[cascades]]\nname = "..."\nfirst = "small"\nthen = "large"' in told.stdout
    assert not list(repository.rglob("cascade.json"))


def test_what_is_declared_is_learned_written_and_loads(repository, tmp_path):
    toml = repository / "blobs" / "model.toml"
    toml.write_text(toml.read_text() + DECLARED)
    checked = CliRunner().invoke(app, ["check", "-r", str(repository)])
    assert checked.exit_code == 1
    told = command(repository, "--within", "1", "--results", str(tmp_path / "results"))
    assert told.exit_code == 0, told.output
    card = json.loads((repository / "blobs" / "both" / "cascade.json").read_text())
    assert (card["first"], card["then"], card["accuracy"]["n"]) == ("small", "large", 600)
    assert 0.0 < card["threshold"] < 1.0
    assert 0.0 < card["escalated"] < 1.0
    # Other rows than those of the declared accuracy: they say only how far the two are apart.
    apart = card["difference"]
    assert card["accuracy"]["value"] == pytest.approx(0.9 + apart["value"])
    assert apart["low"] <= apart["value"] <= apart["high"]
    assert card["costs"] == [
        {"batch": batch, "share": pytest.approx(0.3 + card["escalated"])} for batch in (1, 8)
    ]
    assert card["command"] == "gearshift cascade blobs --within 1"
    checked = CliRunner().invoke(app, ["check", "-r", str(repository)])
    assert checked.exit_code == 0, checked.output
    page = (tmp_path / "results" / "cascade.md").read_text()
    assert "`both` | `small`, then `large`" in page
    assert "cascade-blobs.png" in page
    assert (tmp_path / "results" / "cascade-blobs.png").stat().st_size > 1_000


@pytest.mark.parametrize(
    ("options", "code", "part"),
    [
        (("--first", "small"), 2, "give both"),
        (("--first", "none", "--then", "large"), 1, "has no variant 'none'"),
        (("--first", "large", "--then", "small"), 0, "chosen"),
    ],
)
def test_what_is_asked_for_wrongly(repository, options, code, part):
    told = command(repository, *options)
    assert told.exit_code == code
    assert part in told.output


def test_a_model_without_rows(repository):
    (repository / "blobs" / "samples.npz").unlink()
    told = command(repository)
    assert told.exit_code == 1
    assert "a cascade is learned from held-out rows" in told.output


def test_a_declared_cascade_that_does_not_pay(repository):
    toml = repository / "blobs" / "model.toml"
    toml.write_text(toml.read_text() + DECLARED)
    # The "better" one is the same: the first alone is as accurate and cheaper.
    small = (repository / "blobs" / "small" / "model.onnx").read_bytes()
    (repository / "blobs" / "large" / "model.onnx").write_bytes(small)
    told = command(repository, "--first", "small", "--then", "large")
    assert told.exit_code == 1
    assert "'both' does not pay" in told.output
    assert not list(repository.rglob("cascade.json"))
