"""Cards: what was measured about one artifact, or about two as a cascade, and by what.

A card is written by the program that made the variant or learned the cascade
(`gearshift.compress`) and read by the loader (`gearshift.repository`). Both speak these types,
so that neither has to know the other. `card.json` is exactly `dataclasses.asdict(card)`, and so
is `cascade.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

SCHEMA = 1
"""Version of the card format; raised when a field changes its meaning."""

CASCADE_SCHEMA = 1
"""The same for cascades."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One quality metric measured on held-out data, with its 95 % interval.

    `value`, `low` and `high` are in the metric's own unit; higher is better. `n` is the
    number of evaluated examples, `method` names how the interval was made.
    """

    metric: str
    value: float
    n: int
    low: float
    high: float
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """The data behind a measurement, identified by content, never by a path.

    The two hashes are SHA-256 over the bytes of the rows used for training and of those
    used for evaluation; they differ, or the measurement means nothing.
    """

    name: str
    source: str
    licence: str
    training_sha256: str
    evaluation_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What made the artifact: a sentence, the hash of the code, and the tools' versions."""

    description: str
    command: str
    sha256: str
    tools: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Everything measured about one variant's artifact."""

    schema: int
    model: str
    variant: str
    artifact: str
    artifact_sha256: str
    artifact_bytes: int
    parameters: int
    accuracy: Measurement
    further: tuple[Measurement, ...] = ()
    data: DataSource
    recipe: Recipe

    def to_json(self) -> str:
        """The text of `card.json`: indented, stable order, one trailing newline."""
        return json.dumps(asdict(self), indent=2) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class RelativeCost:
    """What a row costs on average as a share of what it costs with `then` alone, where `batch`
    rows run at once: the time of the first variant and of seeing how sure it is, plus the share
    that goes on of the second's."""

    batch: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeCard:
    """What was learned for one cascade.

    `accuracy` is that of the whole, comparable with the variants' cards; `difference` is the
    same minus that of `then` on the same rows, with a paired interval. Both, and `escalated`,
    were measured on rows other than those that the threshold was chosen by. `rows_sha256` says
    which rows these all were.
    """

    schema: int
    model: str
    cascade: str
    first: str
    then: str
    first_sha256: str
    then_sha256: str
    threshold: float
    escalated: float
    accuracy: Measurement
    difference: Measurement
    costs: tuple[RelativeCost, ...]
    data: str
    rows_sha256: str
    command: str

    def to_json(self) -> str:
        """The text of `cascade.json`: indented, stable order, one trailing newline."""
        return json.dumps(asdict(self), indent=2) + "\n"
