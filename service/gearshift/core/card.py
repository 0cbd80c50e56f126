"""The card of a variant: what was measured about one artifact, and by what.

A card is written by the program that made the variant (`gearshift.compress`) and read
by the loader (`gearshift.repository`). Both speak these types, so that neither has to
know the other. `card.json` is exactly `dataclasses.asdict(card)`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

SCHEMA = 1
"""Version of the card format; raised when a field changes its meaning."""


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
