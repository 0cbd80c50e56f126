"""Channels removed against weights set to zero, at equal shares of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gearshift.compress.dataset import Part
from gearshift.compress.made import Report
from gearshift.compress.studies.figures import Spread
from gearshift.compress.studies.story import Grid, Line, Panel, Story
from gearshift.compress.studies.toy import some, stripes

KINDS = ("structured", "unstructured")
SHARES = (0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The network and its schedules, the same for both kinds."""

    layers: Sequence[tuple[int, int, int]]
    epochs: int
    again: int
    """Epochs of fine-tuning after pruning."""
    seeds: Sequence[int]
    rounds: int
    batch: int = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """One network after pruning and fine-tuning, as its ONNX file."""

    kind: str
    wanted: float
    """The share of the weights that was asked for; 0 is the network before."""
    gone: float
    """The share that really went, or became zero."""
    top1: Sequence[float]
    """By seed of the fine-tuning."""
    low: float
    high: float
    """The Wilson interval of the mean."""
    size: int
    zipped: int
    single: Spread
    many: Spread
    """Milliseconds at batch 1 and 64."""


@dataclass(frozen=True, slots=True)
class Sparsity:
    """The network before, then both kinds at every share."""

    before: Pruned
    pruned: Sequence[Pruned]
    plan: Plan
    trained_on: int
    n: int

    def of(self, kind: str) -> list[Pruned]:
        """One kind by rising share."""
        return sorted((p for p in self.pruned if p.kind == kind), key=lambda p: p.wanted)

    def story(self) -> Story:
        """What either kind is worth where dense kernels run."""
        return Story(
            name="sparsity",
            title="Pruning: channels removed against weights set to zero",
            question=(
                "Unstructured pruning sets the smallest weights to zero; structured pruning takes "
                "whole channels away. At equal shares of the weights: what is left of the "
                "accuracy, and what becomes of file and speed?"
            ),
            findings=self._findings(),
            grids=[Grid(title="All figures", heads=HEADS, body=self._body())],
            panels=[
                self._panel("top-1", lambda p: _mean(p), "top-1 on the evaluation part"),
                self._panel("time at batch 64", lambda p: p.many.median, "ms"),
                self._panel("file", lambda p: p.size / 1e3, "kB"),
                self._panel("file, gzip -9", lambda p: p.zipped / 1e3, "kB"),
            ],
            method=[
                f"A network of {len(self.plan.layers)} convolutions (layers "
                f"{[list(layer) for layer in self.plan.layers]}, batch normalization folded at "
                f"export) learned from {self.trained_on:,} images of Fashion-MNIST for "
                f"{self.plan.epochs} epochs; each pruned one learned {self.plan.again} epochs more "
                f"by one schedule, over {len(self.plan.seeds)} seeds of it. Structured: channels "
                "by Taylor importance in multiples of eight (the pipeline's own step), so many "
                "that about the wanted share of the weights goes. Unstructured: exactly as many "
                "weights, the smallest of the whole network, set to zero and held there "
                "(torch.nn.utils.prune). The network before did not learn those epochs more, so "
                "the two kinds are best compared with each other.",
                f"Accuracy: the exported file on {self.n:,} held-out images, the mean over the "
                "seeds, with the Wilson interval for that many images; the spread over seeds is in "
                "the table. Time: processor time of ONNX Runtime, one thread, all files taking "
                "turns: median and quartiles.",
                "ONNX Runtime multiplies zeros like any other number and stores them like any "
                "other number, so only a general compressor sees unstructured sparsity, and only "
                "until the file is loaded.",
            ],
            sources=[
                "Han, Pool, Tran and Dally, Learning both Weights and Connections (2015)",
                "Fang et al., DepGraph: Towards Any Structural Pruning (2023)",
            ],
        )

    def _findings(self) -> list[str]:
        before, sentences = self.before, []
        for structured, unstructured in zip(*(self.of(kind) for kind in KINDS), strict=True):
            sentences.append(
                f"Without {structured.gone:.0%} of the weights: channels removed, "
                f"{100 * (_mean(structured) - _mean(before)):+.2f} points, "
                f"{structured.size / before.size:.2f} of the bytes and "
                f"{before.many.median / structured.many.median:.2f} times the speed at batch 64; "
                f"set to zero, {100 * (_mean(unstructured) - _mean(before)):+.2f} points, "
                f"{unstructured.size / before.size:.2f} of the bytes "
                f"({unstructured.zipped / before.zipped:.2f} zipped) and "
                f"{before.many.median / unstructured.many.median:.2f} times the speed."
            )
        return sentences

    def _body(self) -> list[tuple[str, ...]]:
        rows = [self.before, *self.of(KINDS[0]), *self.of(KINDS[1])]
        return [
            (
                row.kind,
                f"{row.wanted:.0%}",
                f"{row.gone:.1%}",
                f"{_mean(row):.4f}",
                f"{row.low:.4f} to {row.high:.4f}",
                f"{min(row.top1):.4f} to {max(row.top1):.4f}",
                f"{row.size:,}",
                f"{row.zipped:,}",
                _time(row.single),
                _time(row.many),
            )
            for row in rows
        ]

    def _panel(self, title: str, value: object, up: str) -> Panel:
        assert callable(value)
        lines = []
        for kind in KINDS:
            found = [self.before, *self.of(kind)]
            top1 = title == "top-1"
            lines.append(
                Line(
                    label=kind,
                    x=[100 * row.gone for row in found],
                    y=[value(row) for row in found],
                    low=[row.low for row in found] if top1 else (),
                    high=[row.high for row in found] if top1 else (),
                )
            )
        return Panel(
            title=title,
            across="% of the weights gone or zero",
            up=up,
            lines=lines,
            from_zero=title != "top-1",
        )


HEADS = (
    *("kind", "asked", "gone or zero", "top-1", "95 % interval", "over seeds", "bytes"),
    *("bytes, gzip -9", "ms, batch 1", "ms, batch 64"),
)


def _mean(row: Pruned) -> float:
    return sum(row.top1) / len(row.top1)


def _time(spread: Spread) -> str:
    return f"{spread.median:.3g} ({spread.low:.3g} to {spread.high:.3g})"


def compare(
    training: Part, evaluation: Part, plan: Plan, shares: Sequence[float], report: Report
) -> Sparsity:
    """Train, prune both ways at every share, fine-tune, export, measure."""
    from gearshift.compress.studies.sparsity_runs import run

    return run(training, evaluation, plan, shares, report)


def study(cache: Path, report: Report, *, quick: bool = False) -> Sparsity:
    """10,000 images of Fashion-MNIST and a network of three convolutions."""
    if quick:
        plan = Plan(
            layers=[(16, 2, 0), (32, 2, 0)], epochs=1, again=1, seeds=[1], rounds=5, batch=16
        )
        return compare(stripes(64, 1), stripes(64, 2), plan, (0.5,), report)
    from gearshift.compress.families.garment import clothes

    data = clothes(cache, report)
    plan = Plan(
        layers=[(32, 2, 0), (64, 2, 0), (128, 2, 0)], epochs=6, again=2, seeds=[1, 2], rounds=400
    )
    return compare(some(data.training, 10_000, 0), data.evaluation, plan, SHARES, report)
