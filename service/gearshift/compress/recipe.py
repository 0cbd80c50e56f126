"""A recipe: one TOML file that says which variants of a model are made, from what and how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from gearshift.errors import GearshiftError

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class RecipeError(GearshiftError):
    """A recipe file is wrong: the message names the file, the step and the key."""


class Strict(BaseModel):
    """A table of the file: an unknown key is an error, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Strict):
    """Where the rows come from: a function (`adapter`), or three `.npz` files."""

    adapter: str | None = None
    """`file.py:name` or `package.module:name`, called with (cache, report, **options)."""
    options: dict[str, Any] = {}
    training: Path | None = None
    calibration: Path | None = None
    evaluation: Path | None = None
    name: str = ""
    source: str = ""
    licence: str = ""


class Output(Strict):
    """What the served variants answer, whatever the network itself gives."""

    name: Slug = "probabilities"
    activation: Literal["softmax", "sigmoid", "normalize", "none"] = "softmax"
    """Put behind the network at export: logits become probabilities, embeddings get length 1."""


class Folds(Strict):
    """Cross-validation in place of one evaluation part, for tables too small to hold one out."""

    folds: Annotated[int, Field(ge=2)] = 5
    repeats: PositiveInt = 10


class Learning(Strict):
    """How a network learns: stochastic gradient descent or AdamW, one cycle of the rate."""

    epochs: PositiveInt
    batch: PositiveInt = 256
    rate: PositiveFloat = 0.1
    """The highest learning rate."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    warmup: Share = 0.2
    """The share of the steps in which the rate rises; it falls along a cosine after them."""
    weight_decay: NonNegativeFloat = 5e-4
    smoothing: Share = 0.0
    """Label smoothing."""
    augment: str | None = None
    """A function of (inputs, generator) that gives changed inputs, a batch at a time."""
    checkpoints: bool = False
    """Gradient checkpointing of `segments()`: less memory, more time (Chen et al., 2016)."""
    seed: int | None = None


class Teaching(Strict):
    """What a student takes from its teacher (Hinton et al., 2015; Romero et al., 2015)."""

    teacher: Slug
    learn: Literal["logits", "embeddings"] = "logits"
    temperature: PositiveFloat = 2.0
    hard_share: Share = 0.1
    """The share of the loss that comes from the labels; the teacher gives the rest."""


class Step(Strict):
    """What all steps have in common."""

    name: Slug
    publish: bool = True
    """False for what is only an ingredient of later steps."""
    about: str = ""
    """What it is, for the card and the report; by default a sentence made of the settings."""
    tools: list[str] = []
    """Further distributions that shaped it, beside those that the step itself uses."""


class Import(Step):
    """What is trained already: an ONNX file, or a network with its weights."""

    kind: Literal["import"]
    onnx: Path | None = None
    network: str | None = None
    """A function of (cache, report, **options) that gives a trained network."""
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_of_both(self) -> Import:
        if (self.onnx is None) == (self.network is None):
            raise ValueError("expected either `onnx` (a file) or `network` (a function)")
        return self


class Train(Step):
    """Train a network from scratch, from a step before (`start`), or from a teacher."""

    kind: Literal["train"]
    network: str
    options: dict[str, Any] = {}
    start: Slug | None = None
    """The step whose weights it starts from, wherever name and shape are the same."""
    learning: Learning
    teaching: Teaching | None = None


class Prune(Step):
    """Remove whole channels of a trained network, then let it learn again."""

    kind: Literal["prune"]
    of: Slug
    share: Annotated[float, Field(gt=0.0, lt=1.0)]
    """The share of the channels that go, of every layer (or of all together: `everywhere`)."""
    everywhere: bool = False
    importance: Literal["taylor", "magnitude"] = "taylor"
    round_to: PositiveInt = 8
    keep: list[str] = []
    """Names of layers, or of what contains them, whose outputs stay whole."""
    learning: Learning | None = None
    teaching: Teaching | None = None


class Quantize(Step):
    """Integers of eight bits in place of floating point."""

    kind: Literal["quantize"]
    of: Slug
    method: Literal["static", "dynamic"] = "static"
    calibration: list[Literal["minmax", "percentile", "entropy"]] = ["minmax"]
    """All are tried; the one with the best metric on the calibration part stays."""
    rows: PositiveInt = 1_024
    """Calibration rows that set the scales."""
    per_channel: bool = True
    tolerance: NonNegativeFloat = 0.002
    """What the metric may lose on the calibration part before layers are left in float."""
    most_left: int = 8
    """At most so many layers are left in floating point."""
    keep: list[str] = []
    """Nodes that stay in floating point in any case."""


class Convert(Step):
    """Floating point of 16 bits, for devices that compute in it."""

    kind: Literal["convert"]
    of: Slug
    to: Literal["fp16", "bf16"]


class Optimize(Step):
    """Fold constants, fuse operators, merge what is linear; proven equal."""

    kind: Literal["optimize"]
    of: Slug
    tolerance: PositiveFloat = 1e-4
    """The largest difference of an output on calibration rows."""


class Edge(Step):
    """One self-contained file for a phone, measured in the runtime it is for."""

    kind: Literal["edge"]
    of: Slug
    runtime: Literal["ort", "litert"] = "ort"
    publish: bool = False


class Call(Step):
    """A function of the recipe's own: (Workshop, **options) to a `Made`."""

    kind: Literal["call"]
    function: str
    options: dict[str, Any] = {}
    uses: list[Slug] = []
    layout: str | None = None
    """A function of the same arguments that gives the layout of the network behind the artifact,
    for later steps that go on from its weights."""


AnyStep = Annotated[
    Import | Train | Prune | Quantize | Convert | Optimize | Edge | Call,
    Field(discriminator="kind"),
]


class Serve(Strict):
    """What is published, and what `model.toml` says when there is none yet."""

    max_batch_size: PositiveInt = 64
    budget_ms: PositiveFloat = 100.0
    most_bytes: PositiveInt | None = None
    """Variants of more bytes are made, measured and reported, but not published."""


class Axis(Strict):
    """One setting that a search varies: `step.key` and the values it may take."""

    setting: str
    values: Annotated[list[Any], Field(min_length=1)]


class Goal(Strict):
    """What `--search` looks for."""

    axes: Annotated[list[Axis], Field(min_length=1)]
    most_bytes: PositiveInt | None = None
    most_ms: PositiveFloat | None = None
    trials: PositiveInt = 20


class Recipe(Strict):
    """The whole file."""

    model: Slug
    title: str = ""
    notes: str = ""
    """Sentences for the report: how to read the figures, where their limits are."""
    metric: str
    further: list[str] = []
    seed: int = 1
    data: Data
    samples: str = "random"
    """Rows of the evaluation part that are published with the model: `random`, `none` (where
    the data must not be passed on), or a function that chooses and weighs them."""
    output: Output = Output()
    cross_validation: Folds | None = None
    cross_fitting: Annotated[int, Field(ge=2)] | None = None
    """So many folds that the adapter knows (`fold`, `folds`): each is answered by variants made
    from the others, and the metric is of all answers together."""
    steps: Annotated[list[AnyStep], Field(min_length=1)]
    serve: Serve = Serve()
    search: Goal | None = None
    drawn_batch: Literal[1, 64] = 1
    """The batch size on the picture's axis: 64 where a single row costs the same anywhere."""

    def step(self, name: str) -> Any:
        """The step of that name."""
        return next(step for step in self.steps if step.name == name)


def parents(step: Any) -> tuple[str, ...]:
    """The names of the steps that `step` builds on."""
    found: list[str | None] = [getattr(step, "of", None), getattr(step, "start", None)]
    teaching = getattr(step, "teaching", None)
    found.append(teaching.teacher if teaching is not None else None)
    found.extend(getattr(step, "uses", ()))
    return tuple(dict.fromkeys(name for name in found if name is not None))


KINDS: Mapping[str, type[Step]] = {
    "import": Import,
    "train": Train,
    "prune": Prune,
    "quantize": Quantize,
    "convert": Convert,
    "optimize": Optimize,
    "edge": Edge,
    "call": Call,
}
