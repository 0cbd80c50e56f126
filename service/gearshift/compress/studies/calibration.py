"""Eight-bit integers: one scale a channel or a tensor, and three ways to find the scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gearshift.compress import quantization
from gearshift.compress.dataset import Part
from gearshift.compress.evaluate import predict, session
from gearshift.compress.made import Report
from gearshift.compress.metrics import score, wilson
from gearshift.compress.studies.figures import Spread
from gearshift.compress.studies.runtime import milliseconds
from gearshift.compress.studies.story import Grid, Line, Panel, Story
from gearshift.compress.studies.toy import some, stripes
from gearshift.errors import GearshiftError

FLOAT = "float32"
BATCHES = (1, 64)
ROWS = 1_024
FINE = "finer entropy"
BINS = 512
MODELS = ("pruned", "student", "tiny")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One form of a model: where it gets its scales from, and what it is worth."""

    name: str
    top1: float
    low: float
    high: float
    size: int
    ms: Mapping[int, Spread]
    """By batch size."""
    same_as: str = ""
    """An earlier form that is the same file, byte for byte."""


@dataclass(frozen=True, slots=True)
class Precision:
    """A step of training in float32 and in bfloat16, seconds; `own` where the device computes
    in bfloat16 itself instead of imitating it."""

    own: bool
    single: Spread
    half: Spread

    def sentence(self) -> str:
        """What mixed precision is worth on this machine."""
        ratio = self.half.median / self.single.median
        if self.own:
            return (
                f"Mixed precision: this processor computes in bfloat16, and a step of training a "
                f"small residual net takes {ratio:.2f} times as long with it as in float32."
            )
        return (
            f"Mixed precision: this processor has no bfloat16 arithmetic; imitated, a step of "
            f"training a small residual net was measured {ratio:.1f} times as long as in float32. "
            "Training therefore uses bfloat16 only where the device has it."
        )


@dataclass(frozen=True, slots=True)
class Calibrations:
    """Every form of every model, the float32 form first."""

    models: Mapping[str, Sequence[Form]]
    refused: Mapping[str, str]
    """Forms that could not be made or run, by `model: form`, and why."""
    rows: int
    n: int
    precision: Precision | None

    def story(self) -> Story:
        """Accuracy, size and time of each form."""
        findings = [self._finding(name, forms) for name, forms in self.models.items()]
        findings += _same(self.models)
        findings += [f"{form} cannot be served: {why}." for form, why in self.refused.items()]
        if self.precision is not None:
            findings.append(self.precision.sentence())
        return Story(
            name="calibration",
            title="Eight-bit integers: scales a channel or a tensor, and how they are found",
            question=(
                "Quantization needs a scale for every tensor. Is one scale a channel better than "
                "one a tensor, and does it matter how the range of activations is found?"
            ),
            findings=findings,
            grids=[
                Grid(
                    title=f"garment, {name}",
                    heads=("form", "top-1", "95 % interval", "points lost", "bytes", *_heads()),
                    body=[_row(form, forms[0]) for form in forms],
                )
                for name, forms in self.models.items()
            ],
            panels=[_panel(name, forms) for name, forms in self.models.items()],
            method=[
                f"The published float32 artifacts of the model `garment`, quantized as the "
                f"pipeline does it, but with every layer as integers: the pipeline itself leaves "
                f"layers in float32 where that is needed. Scales are set by {self.rows:,} rows of "
                f"the calibration part; accuracy is top-1 on {self.n:,} rows of the evaluation "
                "part, with the Wilson interval. All forms see the same rows, so neighbours differ "
                "by less than their intervals let expect. The best and the worst form are named by "
                "these same rows: a few hundredths of a point between forms mean nothing.",
                "Static: activations get fixed scales, from their extremes (minmax), from the "
                "99.999th percentile, or from the cut that keeps most of the histogram's "
                "information (entropy). Dynamic: activations are scaled anew for every batch. ONNX "
                "Runtime searches the cut of least entropy in a histogram of by default as many "
                "bins as it has levels, 128, which hardly leaves it a candidate but the whole "
                f"range.{self._finer()}",
                "Time: processor time of ONNX Runtime, one thread, the forms of a model taking "
                "turns: median and quartiles. Sessions are opened as the server opens them (exact "
                "int8 products, also on processors without VNNI, where they are the slower ones).",
            ],
            sources=[
                "Krishnamoorthi, Quantizing deep convolutional networks for efficient inference",
                "Migacz, 8-bit inference with TensorRT (entropy)",
            ],
        )

    def _finer(self) -> str:
        names = {form.name.split(", ")[0] for forms in self.models.values() for form in forms}
        if FINE not in names:
            return ""
        return f" `{FINE}` looks at {BINS} bins instead, so that there is something to choose."

    def _finding(self, name: str, forms: Sequence[Form]) -> str:
        plain, *rest = forms
        if not rest:
            return f"`{name}`: no int8 form could be made."
        best = max(rest, key=lambda form: form.top1)
        worst = min(rest, key=lambda form: form.top1)
        faster = plain.ms[1].median / best.ms[1].median
        return (
            f"`{name}`: the best form ({best.name}) is {100 * (best.top1 - plain.top1):+.2f} "
            f"points from float32, with {plain.size / best.size:.1f} times fewer bytes and "
            f"{faster:.2f} times the speed at batch 1; the worst ({worst.name}) is "
            f"{100 * (worst.top1 - plain.top1):+.2f} points from it. {_scales(forms)}"
        )


def _same(models: Mapping[str, Sequence[Form]]) -> list[str]:
    """What turned out not to be a form of its own."""
    found: dict[tuple[str, str], list[str]] = {}
    for model, forms in models.items():
        for form in forms:
            if form.same_as:
                found.setdefault((form.name, form.same_as), []).append(f"`{model}`")
    return [
        f"`{name}` is byte for byte the file of `{other}` for {', '.join(where)}."
        for (name, other), where in found.items()
    ]


def _scales(forms: Sequence[Form]) -> str:
    """One scale a channel against one a tensor, all else equal."""
    top1 = {form.name: form.top1 for form in forms}
    gains = [
        f"{100 * (top1[name] - top1[one]):+.2f} ({name.split(', ')[0]})"
        for name in top1
        if name.endswith(", channel") and (one := name.replace(", channel", ", tensor")) in top1
    ]
    return f"Scales a channel instead of a tensor: {', '.join(gains)} points." if gains else ""


def _heads() -> tuple[str, ...]:
    return tuple(
        head for batch in BATCHES for head in (f"ms, batch {batch}", f"quartiles, batch {batch}")
    )


def _row(form: Form, plain: Form) -> tuple[str, ...]:
    times = []
    for batch in BATCHES:
        spread = form.ms[batch]
        times += [f"{spread.median:.3g}", f"{spread.low:.3g} to {spread.high:.3g}"]
    return (
        f"{form.name} (= {form.same_as})" if form.same_as else form.name,
        f"{form.top1:.4f}",
        f"{form.low:.4f} to {form.high:.4f}",
        f"{100 * (plain.top1 - form.top1):.2f}",
        f"{form.size:,}",
        *times,
    )


def _panel(name: str, forms: Sequence[Form]) -> Panel:
    places = list(range(len(forms)))
    return Panel(
        title=f"garment, {name}",
        across="",
        up="top-1 on the evaluation part",
        names=[form.name for form in forms],
        level=forms[0].top1,
        lines=[
            Line(
                label="top-1",
                x=places,
                y=[form.top1 for form in forms],
                low=[form.low for form in forms],
                high=[form.high for form in forms],
            )
        ],
    )


def compare(
    models: Mapping[str, bytes],
    calibration: Part,
    evaluation: Part,
    report: Report,
    *,
    rounds: int,
    precision: Precision | None = None,
) -> Calibrations:
    """Make every form of every model and measure it."""
    refused: dict[str, str] = {}
    found = {}
    for model, content in models.items():
        forms = {FLOAT: content}
        for form in _names():
            report(f"{model}: {form}")
            try:
                made = _quantized(content, calibration, form)
                session(made)
            except Exception as error:  # noqa: BLE001 - ONNX Runtime's own types differ by version
                refused[f"`{model}`, {form}"] = _short(error)
            else:
                forms[form] = made
        report(f"{model}: accuracy and time")
        found[model] = _measured(forms, evaluation, rounds)
    return Calibrations(found, refused, len(calibration), len(evaluation), precision)


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0].split(" : ")[-1][:160]


def _names() -> list[str]:
    methods = (*quantization.METHODS, FINE)
    static = [f"{method}, {scale}" for method in methods for scale in ("channel", "tensor")]
    return [*static, "dynamic, channel", "dynamic, tensor"]


def _quantized(content: bytes, calibration: Part, form: str) -> bytes:
    method, scale = form.split(", ")
    each = scale == "channel"
    if method == "dynamic":
        return quantization.dynamic(content, per_channel=each).content
    bins = BINS if method == FINE else None
    method = "entropy" if method == FINE else method
    found = quantization.static(content, calibration, method=method, per_channel=each, bins=bins)
    return found.content


def _measured(forms: Mapping[str, bytes], evaluation: Part, rounds: int) -> list[Form]:
    first = {content: name for name, content in reversed(list(forms.items()))}
    distinct = {name: content for content, name in reversed(list(first.items()))}
    times = {batch: milliseconds(distinct, evaluation, batch, rounds) for batch in BATCHES}
    top1 = {
        name: score("top1", evaluation.labels, predict(content, evaluation.inputs))
        for name, content in distinct.items()
    }
    measured = []
    n = len(evaluation)
    for name, content in forms.items():
        origin = first[content]
        low, high = wilson(round(top1[origin] * n), n)
        measured.append(
            Form(
                name=name,
                top1=top1[origin],
                low=low,
                high=high,
                size=len(content),
                ms={batch: times[batch][origin] for batch in BATCHES},
                same_as="" if origin == name else origin,
            )
        )
    return measured


def study(
    cache: Path, report: Report, *, quick: bool = False, models: Path = Path("model_repo")
) -> Calibrations:
    """The published float32 forms of `garment`."""
    from gearshift.compress.studies.calibration_runs import precision, toy_model

    if quick:
        toys = {"toy": toy_model()}
        return compare(toys, stripes(64, 1), stripes(64, 2), report, rounds=5)
    from gearshift.compress.families.garment import clothes

    data = clothes(cache, report)
    contents = {}
    for name in MODELS:
        path = models / "garment" / name / "model.onnx"
        if not path.is_file():
            raise GearshiftError(f"{path}: no such file; run the study where model_repo is")
        contents[name] = path.read_bytes()
    report("mixed precision")
    return compare(
        contents,
        some(data.calibration, ROWS, seed=0),
        data.evaluation,
        report,
        rounds=400,
        precision=precision(),
    )
