"""The catalog: the immutable in-memory picture of the models that one generation serves."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gearshift.core.card import Card
from gearshift.core.steps import After, Before
from gearshift.errors import ModelNotFound, VariantNotFound


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: its name, Open Inference Protocol datatype and shape per row.

    `shape` is without the leading batch dimension; every dimension in it is fixed.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a network takes and gives: all variants of a model share one. Or what callers of the
    model send and get."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Late(StrEnum):
    """What a late answer is worth to a service class."""

    DROP = "drop"
    SERVE = "serve"


@dataclass(frozen=True, slots=True)
class ServiceClass:
    """Named defaults of a model's requests. `budget` in seconds, `math.inf` for none; `priority`
    is what Triton's clients may say instead of the name, None for nothing."""

    name: str
    budget: float = math.inf
    floor: float = -math.inf
    late: Late = Late.DROP
    weight: float = 1.0
    priority: int | None = None


class Standing(StrEnum):
    """Who may choose a variant: the server, for all; the server, for a few; the caller only."""

    SERVING = "serving"
    CANARY = "canary"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to answer for a model.

    `artifact` is the path of the file that the executor loads, `artifact_files` are the names of
    those beside it that belong to it; bytes and hash are of all of them (`core.artifact`). `source`
    says whether the accuracy was measured (there is a card) or only declared in model.toml. While
    it is a canary, `share` of the requests that it could answer are given to it.
    """

    name: str
    version: int
    executor: str
    accuracy: float
    source: str
    artifact: str
    artifact_bytes: int = 0
    artifact_sha256: str = ""
    artifact_files: tuple[str, ...] = ()
    card: Card | None = None
    standing: Standing = Standing.SERVING
    share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """Two variants that answer together: `first` answers every row, and those rows of which it
    is less than `threshold` confident go on to `then`, whose answer counts if it comes in time.

    `accuracy` is what such answers reach on average, `escalated` the share of rows that go on;
    both were measured on held-out data. Confidence is between 0 and 1.
    """

    name: str
    first: str
    then: str
    threshold: float
    escalated: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a client names. `variants` are ordered from the most to the least accurate. `signature`
    is that of the networks; the steps `before` and `after` make of it what callers see (`wire`).
    `generation` is that of the catalog that loaded it: what has not changed since is kept. Unless
    it is `finite`, its answers may rightly hold NaN and infinities."""

    name: str
    metric: str
    max_batch_size: int
    signature: Signature
    classes: Mapping[str, ServiceClass]
    default_class: str
    variants: tuple[Variant, ...]
    cascades: tuple[Cascade, ...] = ()
    before: tuple[Before, ...] = ()
    after: tuple[After, ...] = ()
    samples: str | None = None
    generation: int = 1
    finite: bool = True

    @property
    def wire(self) -> Signature:
        """What callers send and get, as stock clients are told."""
        if not self.before and not self.after:
            return self.signature
        made = {spec.name for step in self.before for spec in step.makes}
        own = [spec for spec in self.signature.inputs if spec.name not in made]
        return Signature(
            (*[step.takes for step in self.before], *own),
            (*self.signature.outputs, *[step.makes for step in self.after]),
        )

    def expects(self, given: Collection[str]) -> tuple[TensorSpec, ...]:
        """The inputs that a request must have which gives these, by name: those on the wire, or
        the network's own where it gives none that a step takes."""
        return self.wire.inputs if self.prepares(given) else self.signature.inputs

    def prepares(self, given: Collection[str]) -> bool:
        """Whether a request that gives these inputs is for the steps before the network."""
        return any(step.takes.name in given for step in self.before)

    @property
    def best(self) -> Variant:
        """The most accurate variant among those that serve."""
        serving = (v for v in self.variants if v.standing is Standing.SERVING)
        return next(serving, self.variants[0])

    @property
    def best_accuracy(self) -> float:
        return self.best.accuracy

    def by_version(self, version: int) -> Variant:
        """The variant with that number, or VariantNotFound naming those that exist."""
        for variant in self.variants:
            if variant.version == version:
                return variant
        raise VariantNotFound(
            f"model {self.name!r} has no version {version}; it has {self._known()}"
        )

    def by_name(self, name: str) -> Variant:
        """The variant of that name, or VariantNotFound naming those that exist."""
        found = self.pinned(name)
        if found is None:
            raise VariantNotFound(
                f"model {self.name!r} has no variant {name!r}; it has {self._known()}"
            )
        return found

    def pinned(self, name: str | None) -> Variant | None:
        """The variant of that name; None for no name and for that of a cascade."""
        return next((variant for variant in self.variants if variant.name == name), None)

    def _known(self) -> str:
        ordered = sorted(self.variants, key=lambda variant: variant.version)
        known = ", ".join(f"{variant.version} ({variant.name})" for variant in ordered)
        cascades = ", ".join(cascade.name for cascade in self.cascades)
        return f"{known}; cascades: {cascades}" if cascades else known


@dataclass(frozen=True, slots=True)
class Catalog:
    """All models of one generation, by name."""

    generation: int
    models: Mapping[str, Model] = field(default_factory=dict)

    def model(self, name: str) -> Model:
        """The model of that name, or ModelNotFound naming those that exist."""
        try:
            return self.models[name]
        except KeyError:
            known = ", ".join(sorted(self.models)) or "none"
            raise ModelNotFound(f"no model {name!r} is served here; there are: {known}") from None
