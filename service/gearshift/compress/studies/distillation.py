"""A student with a teacher against its twin without: same rows, same seed, same steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gearshift.compress.made import Report
from gearshift.compress.studies.figures import Estimate, accuracy, estimate, paired, points
from gearshift.compress.studies.story import Grid, Line, Panel, Story
from gearshift.compress.studies.toy import some, stripes
from gearshift.errors import GearshiftError

SEEDS = (1, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to learn; its metric by seed."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two arms by name that differ in one thing, and what that thing is."""

    effect: str
    treated: str
    plain: str
    note: str = ""
    """What must be known to read the difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """All arms of one model."""

    model: str
    metric: str
    arms: Sequence[Arm]
    pairs: Sequence[Pair]
    method: str

    def values(self, name: str) -> Sequence[float]:
        """An arm's metric by seed."""
        return next(arm.values for arm in self.arms if arm.name == name)

    def effects(self) -> list[tuple[Pair, Estimate]]:
        """The paired difference of each pair."""
        return [
            (pair, paired(self.values(pair.treated), self.values(pair.plain)))
            for pair in self.pairs
        ]


@dataclass(frozen=True, slots=True)
class Distillation:
    """The trials, one a model."""

    trials: Sequence[Trial]

    def story(self) -> Story:
        """Paired differences with their intervals."""
        grids, findings = [], []
        for trial in self.trials:
            grids += [_arms(trial), _effects(trial)]
            findings += [_finding(trial, pair, found) for pair, found in trial.effects()]
        return Story(
            name="distillation",
            title="Distillation: a student with a teacher against its twin without",
            question=(
                "A student that also learns what a teacher thinks of each row should come out "
                "better than one that sees the labels alone. Does it, on the same rows, from the "
                "same start, in the same number of steps?"
            ),
            findings=findings,
            grids=grids,
            panels=[_panel(trial) for trial in self.trials],
            method=[
                *(trial.method for trial in self.trials),
                "Twins share a seed: the same initial weights and the same order of rows. The "
                "interval is Student's t over the paired differences, 95 %; it covers what the "
                "seed changes, not what another sample of rows would. An interval that holds zero "
                "means that so many seeds show no difference. The intervals are not widened for "
                f"there being {sum(len(trial.pairs) for trial in self.trials)} of them.",
            ],
            sources=[
                "Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network (2015)",
                "Romero et al., FitNets (2015)",
            ],
        )


def _finding(trial: Trial, pair: Pair, found: Estimate) -> str:
    word = "" if found.differs else ": no difference that these seeds show"
    return (
        f"{trial.model}, {pair.effect}: {points(found)} points of {trial.metric} over "
        f"{found.n} seeds{word}{pair.note and f' ({pair.note})'}."
    )


def _arms(trial: Trial) -> Grid:
    body = [
        (
            arm.name,
            accuracy(estimate(arm.values)),
            f"{min(arm.values):.4f}",
            f"{max(arm.values):.4f}",
        )
        for arm in trial.arms
    ]
    heads = ("learned from", f"{trial.metric}, mean (95 % interval)", "lowest seed", "highest seed")
    return Grid(title=f"{trial.model}: each way to learn", heads=heads, body=body)


def _effects(trial: Trial) -> Grid:
    body = [
        (pair.effect, pair.treated, pair.plain, points(found), "yes" if found.differs else "no")
        for pair, found in trial.effects()
    ]
    heads = ("effect", "with", "without", "points, mean (95 % interval)", "differs from zero")
    return Grid(
        title=f"{trial.model}: paired differences", heads=heads, body=body, text=(0, 1, 2, 4)
    )


def _panel(trial: Trial) -> Panel:
    found = [estimated for _, estimated in trial.effects()]
    return Panel(
        title=f"{trial.model}: what each changes",
        across="",
        up=f"points of {trial.metric}",
        names=[pair.effect for pair in trial.pairs],
        level=0.0,
        lines=[
            Line(
                label="paired difference",
                x=list(range(len(found))),
                y=[100 * e.mean for e in found],
                low=[100 * e.low for e in found],
                high=[100 * e.high for e in found],
            )
        ],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The student's and the small teacher's layouts and epochs."""

    student: Sequence[tuple[int, int, int]]
    teacher: Sequence[tuple[int, int, int]]
    epochs: int
    teacher_epochs: int
    batch: int = 64


def study(
    cache: Path, report: Report, *, quick: bool = False, models: Path = Path("model_repo")
) -> Distillation:
    """A small student of Fashion-MNIST, and the network of the model `fraud`."""
    from gearshift.compress.studies.distillation_runs import fraud, garment

    if quick:
        plan = Plan(student=[(8, 2, 0)], teacher=[(16, 2, 0)], epochs=1, teacher_epochs=1, batch=16)
        return Distillation([garment(stripes(64, 1), stripes(64, 2), plan, (1, 2), report)])
    from gearshift.compress.families.fraud_data import payments
    from gearshift.compress.families.garment import clothes

    data = clothes(cache, report)
    published = models / "garment" / "teacher-int8" / "model.onnx"
    if not published.is_file():
        raise GearshiftError(f"{published}: no such file; run the study where model_repo is")
    plan = Plan(
        student=[(8, 2, 0), (16, 2, 0), (32, 2, 0)],
        teacher=[(32, 2, 0), (64, 2, 0), (128, 2, 0)],
        epochs=10,
        teacher_epochs=12,
    )
    rows = some(data.training, 10_000, 0)
    clothed = garment(rows, data.evaluation, plan, SEEDS, report, published.read_bytes())
    return Distillation([clothed, fraud(payments(cache, report), SEEDS, report)])
