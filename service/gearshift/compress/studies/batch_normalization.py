"""Batch normalization: what it does to learning, and what folding it at export is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gearshift.compress.made import Report
from gearshift.compress.studies.figures import Spread, accuracy, estimate, paired, points
from gearshift.compress.studies.story import Grid, Line, Panel, Story
from gearshift.compress.studies.toy import some, stripes

WITH, WITHOUT = "with", "without"
RAW = "kept, file not optimized"
KEPT = "run as operators"
SERVED = "folded by the runtime"
FOLDED = "folded by the exporter"
FORMS = (RAW, KEPT, SERVED, FOLDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training: top-1 on held-out rows after every epoch; empty from where the loss was no
    number any more."""

    norms: str
    rate: float
    seed: int
    curve: Sequence[float]

    def last(self, chance: float = 0.1) -> float:
        """The accuracy in the end; a training that ran away is worth a guess."""
        return self.curve[-1] if self.curve else chance


@dataclass(frozen=True, slots=True)
class Folding:
    """One network exported both ways, and run three ways."""

    name: str
    nodes: Mapping[str, int]
    """Operators in the file, by form."""
    ms: Mapping[int, Mapping[str, Spread]]
    """Milliseconds by batch size and form."""
    difference: float
    """The largest difference of an answer, as a share of the largest answer."""

    def gain(self, batch: int, form: str = KEPT) -> float:
        """How many times faster the folded form is than `form`."""
        return self.ms[batch][form].median / self.ms[batch][FOLDED].median


@dataclass(frozen=True, slots=True)
class BatchNormalization:
    """All trainings, and the folding."""

    runs: Sequence[Run]
    epochs: int
    rows: int
    n: int
    folded: Sequence[Folding]

    def rates(self) -> list[float]:
        """The rates that were tried, rising."""
        return sorted({run.rate for run in self.runs})

    def last(self, norms: str, rate: float) -> list[float]:
        """The accuracies in the end by seed."""
        chosen = [run for run in self.runs if run.norms == norms and run.rate == rate]
        return [run.last() for run in sorted(chosen, key=lambda run: run.seed)]

    def curve(self, norms: str, rate: float) -> list[Sequence[float]]:
        """By epoch, the accuracies of the seeds that were still learning."""
        curves = [run.curve for run in self.runs if run.norms == norms and run.rate == rate]
        by_epoch = [[c[epoch] for c in curves if len(c) > epoch] for epoch in range(self.epochs)]
        return [values for values in by_epoch if values]

    def story(self) -> Story:
        """Learning curves, and the folding."""
        return Story(
            name="batch-normalization",
            title="Batch normalization: learning with it, serving without it",
            question=(
                "Batch normalization should let a network learn faster and at higher rates; at "
                "serving time it is a multiplication and an addition that the convolution before "
                "it can take over. What is either worth?"
            ),
            findings=self._findings(),
            grids=[self._learning(), *(_folding(found) for found in self.folded)],
            panels=[*(self._panel(rate) for rate in self.rates()), _bars(self.folded)],
            method=[
                f"Learning: three convolutions and a linear layer on {self.rows:,} images of "
                f"Fashion-MNIST, {self.epochs} epochs of stochastic gradient descent with one "
                "cycle of the rate (the highest rate is named); without normalization every "
                "convolution has a bias instead. Twins share the seed and so the order of rows. "
                f"Top-1 on {self.n:,} held-out images after every epoch: mean over the seeds, "
                "with the lowest and highest. A training whose loss stopped being a number counts "
                "as a guess (0.1). The best rate of either was chosen on these same rows.",
                f"Serving: the same network exported in four forms. `{FOLDED}`: what the pipeline "
                f"publishes. `{SERVED}`: the file keeps the normalizations, ONNX Runtime folds "
                f"them when it loads it. `{KEPT}`: the same file, that fusion (ConvBNFusion) "
                f"switched off; it then runs a normalization as a convolution of each channel by "
                f"itself. `{RAW}`: as the exporter writes a file without its optimizations; "
                "the parameters of its normalizations are computed in the graph, so the runtime "
                "cannot fold them, and other operators are left unfused, too. Time: processor "
                "time, one thread, the forms taking turns: median and quartiles.",
            ],
            sources=["Ioffe and Szegedy, Batch Normalization (2015)"],
        )

    def _findings(self) -> list[str]:
        sentences = []
        for rate in self.rates():
            norms, plain = self.last(WITH, rate), self.last(WITHOUT, rate)
            sentences.append(
                f"Highest rate {rate:g}: top-1 {accuracy(estimate(norms))} with it, "
                f"{accuracy(estimate(plain))} without; paired {points(paired(norms, plain))} "
                "points."
            )
        best = {
            norms: max(self.rates(), key=lambda rate: sum(self.last(norms, rate)))
            for norms in (WITH, WITHOUT)
        }
        ahead = paired(self.last(WITH, best[WITH]), self.last(WITHOUT, best[WITHOUT]))
        sentences.insert(
            0,
            f"Each at its own best rate ({best[WITH]:g} with, {best[WITHOUT]:g} without): "
            f"{points(ahead)} points of top-1 with batch normalization.",
        )
        sentences += [
            f"Folded at export, {found.name}: {found.gain(1):.2f} times the speed of the same "
            f"graph with the normalizations run as operators at batch 1, {found.gain(64):.2f} "
            f"times at batch 64; {found.gain(64, SERVED):.2f} times where the runtime folds them "
            f"itself, {found.gain(64, RAW):.2f} times that of a file that the exporter did not "
            f"optimize. The answers differ by {found.difference:.1e} of the largest at most."
            for found in self.folded
        ]
        return sentences

    def _learning(self) -> Grid:
        body = [
            (
                f"{rate:g}",
                accuracy(estimate(self.last(WITH, rate))),
                accuracy(estimate(self.last(WITHOUT, rate))),
                points(paired(self.last(WITH, rate), self.last(WITHOUT, rate))),
                _reached(self, WITH, rate),
                _reached(self, WITHOUT, rate),
            )
            for rate in self.rates()
        ]
        heads = (
            *("highest rate", "with", "without", "points, paired (95 % interval)"),
            *("after epoch 1, with", "after epoch 1, without"),
        )
        return Grid(title="Learning", heads=heads, body=body)

    def _panel(self, rate: float) -> Panel:
        lines = []
        for norms in (WITH, WITHOUT):
            curve = self.curve(norms, rate)
            lines.append(
                Line(
                    label=f"{norms} batch normalization",
                    x=list(range(1, len(curve) + 1)),
                    y=[sum(values) / len(values) for values in curve],
                    low=[min(values) for values in curve],
                    high=[max(values) for values in curve],
                )
            )
        return Panel(
            title=f"highest rate {rate:g}", across="epoch", up="top-1, held out", lines=lines
        )


def _reached(found: BatchNormalization, norms: str, rate: float) -> str:
    curve = found.curve(norms, rate)
    return f"{sum(curve[0]) / len(curve[0]):.3f}" if curve else "ran away"


def _folding(found: Folding) -> Grid:
    body = [
        (
            form,
            str(found.nodes[form]),
            *(
                f"{spread.median:.3g} ({spread.low:.3g} to {spread.high:.3g})"
                for spread in (found.ms[batch][form] for batch in found.ms)
            ),
        )
        for form in FORMS
    ]
    heads = ("normalizations", "operators in the file", *(f"ms, batch {b}" for b in found.ms))
    return Grid(title=f"Serving: {found.name}", heads=heads, body=body)


def _bars(folded: Sequence[Folding]) -> Panel:
    names = [f"{found.name}, batch {batch}" for found in folded for batch in found.ms]
    lines = [
        Line(
            label=f"against: {form}",
            x=list(range(len(names))),
            y=[found.gain(batch, form) for found in folded for batch in found.ms],
        )
        for form in FORMS[:-1]
    ]
    return Panel(
        title="folded at export", across="", up="times as fast", names=names, lines=lines, level=1.0
    )


def study(cache: Path, report: Report, *, quick: bool = False) -> BatchNormalization:
    """5,000 images, three rates, three seeds; the folding on the teacher and a small network."""
    from gearshift.compress.studies.batch_normalization_runs import run

    if quick:
        return run(
            *(stripes(64, 1), stripes(64, 2), [(8, 2, 0)], report),
            rates=[0.1],
            seeds=[1, 2],
            epochs=1,
            batch=16,
            served={"toy": [(8, 2, 0), (16, 2, 0)]},
            rounds=5,
        )
    from gearshift.compress.families.garment import clothes

    data = clothes(cache, report)
    return run(
        *(some(data.training, 5_000, 0), some(data.evaluation, 3_000, 0)),
        *([(16, 2, 0), (32, 2, 0), (64, 2, 0)], report),
        rates=[0.02, 0.1, 0.5],
        seeds=[1, 2, 3],
        epochs=5,
        batch=64,
        served={
            "the teacher's layout": [(32, 1, 0), (64, 2, 1), (128, 2, 1)],
            "a small layout": [(16, 2, 0), (32, 1, 0), (64, 2, 0)],
        },
        rounds=400,
    )
