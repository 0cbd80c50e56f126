"""Live inputs beside held-out samples: those of the shipped models, as they are and changed."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from builders import make_catalog, make_model
from gearshift.core.catalog import Model, Signature, TensorSpec
from gearshift.core.drift import BEGINS, ENDS, LEAST_ROWS
from gearshift.drift import DriftWatch, watch
from gearshift.drift.watch import ROWS_PER_TICK, WINDOW, Drift
from gearshift.ports import Batch, Row

SHIPPED = Path(__file__).parents[2] / "model_repo"


def shipped(name: str, datatype: str, *shape: int) -> Model:
    signature = Signature((TensorSpec("x", datatype, shape),), ())
    samples = str(SHIPPED / name / "samples.npz")
    return dataclasses.replace(make_model(name, signature=signature), samples=samples)


FRAUD = shipped("fraud", "FP32", 30)
GARMENT = shipped("garment", "UINT8", 28, 28)
WITHOUT = make_model("without")


def drawn(model: Model, count: int, seed: int = 0) -> np.ndarray:
    """Held-out rows as often as they are met: a weight says for how many a row stands."""
    with np.load(str(model.samples)) as samples:
        weights = samples["weights"]
        rng = np.random.default_rng(seed)
        return samples["inputs"][rng.choice(len(weights), count, p=weights / weights.sum())]


def batch(model: Model, inputs: np.ndarray) -> Batch:
    """A request for each row."""
    requests = [Row(b"", "default", at, 1) for at in range(len(inputs))]
    return Batch(model, model.variants[0], "", {"x": inputs}, {}, requests)


class Bench:
    """A watch over all models whose thread does not run: `see` looks when told."""

    def __init__(self) -> None:
        self.catalog = make_catalog(FRAUD, GARMENT, WITHOUT)
        self.watch = DriftWatch(self.catalog, seed=1)
        self.watch.prepare(self.catalog.models.values())
        self.watch.follow(self.catalog)

    def see(self, model: Model, inputs: np.ndarray) -> Drift:
        for at in range(0, len(inputs), ROWS_PER_TICK):
            part = inputs[at : at + ROWS_PER_TICK]
            for begin in range(0, len(part), 8):
                self.watch.answered(batch(model, part[begin : begin + 8]))
            self.watch.look(model.name)
        return self.watch.drifts[model.name]


def changed(feature: int, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    inputs = drawn(FRAUD, 600).copy()
    inputs[:, feature] = change(inputs[:, feature])
    return inputs


def test_payments_as_they_were_held_out_have_not_drifted(capsys):
    bench = Bench()
    drift = bench.see(FRAUD, drawn(FRAUD, 2_500))
    assert not drift.drifted
    assert drift.rows == WINDOW
    assert len(drift.shifts) == 30
    assert drift.greatest < ENDS
    assert "drifted" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("feature", "change"),
    [
        (5, lambda values: values + values.std()),
        (7, lambda values: values * 3),
        (2, lambda values: np.where(np.arange(len(values)) % 5 == 0, np.nan, values)),
        (29, lambda values: values / 100),
        (11, lambda values: np.zeros_like(values)),
    ],
)
def test_one_feature_that_changes_is_found_and_named(feature, change, capsys):
    bench = Bench()
    inputs = changed(feature, change)
    drift = bench.see(FRAUD, inputs)
    assert drift.drifted
    assert next(iter(drift.shifts)) == f"x[{feature}]"
    assert [name for name, each in drift.shifts.items() if each.psi >= BEGINS] == [f"x[{feature}]"]
    told = capsys.readouterr().out
    assert told.count("have drifted") == 1
    assert f"x[{feature}]" in told


def test_where_drift_is_found_scipy_finds_it_too():
    """Feature by feature, by the two-sample test of Kolmogorov and Smirnov."""
    bench = Bench()
    inputs = changed(5, lambda values: values + values.std())
    drift = bench.see(FRAUD, inputs)
    before = drawn(FRAUD, 2_000, seed=9)
    for name, each in drift.shifts.items():
        feature = int(name[2:-1])
        found = stats.ks_2samp(inputs[:, feature], before[:, feature]).pvalue
        assert (found < 1e-6) == (each.psi >= BEGINS), name


def test_garments_as_they_were_held_out_have_not_drifted_inverted_ones_have(capsys):
    bench = Bench()
    pictures = drawn(GARMENT, 2_000)
    assert not bench.see(GARMENT, pictures).drifted
    drift = bench.see(GARMENT, 255 - pictures)
    assert drift.drifted
    assert {"x zeros", "x mean"} <= set(list(drift.shifts)[:3])
    assert "have drifted" in capsys.readouterr().out
    assert not bench.see(GARMENT, pictures).drifted
    assert "are again" in capsys.readouterr().out


def test_garments_that_lie_elsewhere_have_drifted():
    drift = Bench().see(GARMENT, np.roll(drawn(GARMENT, 500), 5, axis=1))
    assert drift.drifted
    assert next(iter(drift.shifts)) == "x centre 0"


def test_nothing_is_said_of_few_rows():
    bench = Bench()
    drift = bench.see(FRAUD, np.full((LEAST_ROWS - 1, 30), 1e9, np.float32))
    assert drift == Drift(LEAST_ROWS - 1, {}, False)
    assert bench.see(FRAUD, np.full((1, 30), 1e9, np.float32)).drifted


def test_of_many_requests_so_many_are_taken_a_look():
    bench = Bench()
    for _ in range(1_000):
        bench.watch.answered(batch(FRAUD, drawn(FRAUD, 8)))
    bench.watch.look("fraud")
    assert bench.watch.drifts["fraud"].rows == ROWS_PER_TICK
    bench.watch.look("fraud")
    assert bench.watch.drifts["fraud"].rows == ROWS_PER_TICK


def test_a_model_without_samples_is_told_once_and_left_alone(capsys):
    bench = Bench()
    told = [line for line in capsys.readouterr().out.splitlines() if "not watched" in line]
    assert len(told) == 1
    assert "without" in told[0]
    bench.watch.answered(batch(WITHOUT, np.zeros((1, 3), np.float32)))
    bench.watch.look("without")
    assert set(bench.watch.drifts) == {"fraud", "garment"}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("wrong", [{"y": np.zeros((1, 30))}, {"x": np.zeros((1, 7))}])
def test_what_cannot_be_watched_is_given_up_and_told_once_and_the_others_go_on(wrong, capsys):
    bench = Bench()
    capsys.readouterr()
    for _ in range(3):
        bench.watch.answered(dataclasses.replace(batch(FRAUD, np.zeros((1, 30))), inputs=wrong))
        bench.watch.look("fraud")
    assert capsys.readouterr().out.count("no longer watched") == 1
    assert bench.see(GARMENT, drawn(GARMENT, 300)).rows == 300


def test_answers_whose_inputs_are_no_longer_there_are_passed_over():
    """Those of a cascade that are given later, in the batch of its second variant."""
    bench = Bench()
    bench.watch.answered(dataclasses.replace(batch(FRAUD, drawn(FRAUD, 8)), inputs={}))
    assert bench.see(FRAUD, drawn(FRAUD, 8)).rows == 8


def test_what_runs_again_as_a_shadow_is_not_seen_twice():
    bench = Bench()
    bench.watch.shadowed(batch(FRAUD, drawn(FRAUD, 8)))
    bench.watch.look("fraud")
    assert bench.watch.drifts["fraud"].rows == 0


def test_the_thread_looks_by_itself_until_it_is_closed(monkeypatch):
    monkeypatch.setattr(watch, "TICK", 0.01)
    running = DriftWatch(make_catalog(FRAUD, GARMENT), seed=1)
    looked = threading.Event()
    look = running.look

    def see(model: str) -> None:
        look(model)
        if running.drifts["garment"].rows and running.drifts["fraud"].rows:
            looked.set()

    monkeypatch.setattr(running, "look", see)
    running.start()
    try:
        for model in (FRAUD, GARMENT):
            running.answered(batch(model, drawn(model, 8)))
        assert looked.wait(30)
    finally:
        monkeypatch.setattr(watch, "TICK", 30.0)
        running.close()
    assert not running._thread.is_alive()


def test_with_nothing_to_watch_there_is_no_thread():
    idle = DriftWatch(make_catalog(WITHOUT))
    idle.start()
    idle.answered(batch(WITHOUT, np.zeros((1, 3), np.float32)))
    assert not idle._thread.is_alive()
    idle.close()
