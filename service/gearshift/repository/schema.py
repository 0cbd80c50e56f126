"""The format of `model.toml`, and of a card as it is read back: what may stand there.

Every key is described where it is declared; the same description is the second half of the
message that a mistake in that key gets.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from gearshift.core.card import Card, CascadeCard
from gearshift.core.catalog import Late, ServiceClass
from gearshift.core.request import LONGEST_BUDGET

NAME_RULE = (
    "a name of lower-case letters, digits, '-', '_' and '.', at most 64, that begins with a"
    " letter or digit"
)
Name = Annotated[
    str, StringConstraints(pattern=r"\A[a-z0-9][a-z0-9\-_.]*\z", min_length=1, max_length=64)
]
"""Names become labels, folder names and words in messages, so they are kept plain."""

LARGEST_BATCH = 1024
MOST_CLASSES = 64
MOST_VARIANTS = 256
MOST_STEPS = 16
MOST_CANARY = 0.5
LARGEST_PRIORITY = 2**31 - 1
LARGEST_VERSION = 2**31 - 1
LONGEST_BUDGET_MS = LONGEST_BUDGET * 1e3


class Strict(BaseModel):
    """What is written must be what is expected: no key beside, and no type for another."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ClassEntry(Strict):
    """One table `[classes.<name>]`: the defaults of the requests that name this class."""

    budget_ms: float | None = Field(
        None,
        gt=0,
        le=LONGEST_BUDGET_MS,
        description="milliseconds that a request may take, above 0 and at most a week;"
        " leave it out for no limit",
    )
    min_accuracy: float | None = Field(
        None,
        description="the least accuracy that a request accepts, a number in the model's own"
        " metric; leave it out for none",
    )
    # `strict` would take only a member of Late, which TOML cannot write.
    late: Late = Field(
        Late.DROP,
        strict=False,
        description='what a late answer is worth: "drop" (nothing) or "serve" (still something)',
    )
    weight: float = Field(
        1.0,
        gt=0,
        description="what an answer of this class is worth beside the others, above 0",
    )

    priority: int | None = Field(
        None,
        ge=1,
        le=LARGEST_PRIORITY,
        description="the number by which Triton's parameter `priority` chooses this class, a whole"
        " number from 1 (the most urgent), another for each class; leave it out for none",
    )

    def service_class(self, name: str) -> ServiceClass:
        """The same in the catalog's units (seconds)."""
        return ServiceClass(
            name=name,
            budget=math.inf if self.budget_ms is None else self.budget_ms / 1e3,
            floor=-math.inf if self.min_accuracy is None else self.min_accuracy,
            late=self.late,
            weight=self.weight,
            priority=self.priority,
        )


class VariantEntry(Strict):
    """One table `[[variants]]`: one way to answer for the model."""

    name: Name = Field(description=f"the variant's name and that of its folder: {NAME_RULE}")
    version: int = Field(
        ge=1,
        le=LARGEST_VERSION,
        description="the variant's number on the wire, a whole number from 1, never reused",
    )
    executor: str = Field(description='what runs it: "onnx", "torch" or "triton"')
    accuracy: float | None = Field(
        None,
        description="the declared accuracy, a number; only where no card.json measured it",
    )
    canary: float | None = Field(
        None,
        gt=0,
        le=MOST_CANARY,
        description="the share of requests that a new variant gets until enough is known about"
        f" it, above 0 and at most {MOST_CANARY}; leave it out for a variant that serves all",
    )


class CascadeEntry(Strict):
    """One table `[[cascades]]`: two variants that answer together."""

    name: Name = Field(description=f"the cascade's name and that of its folder: {NAME_RULE}")
    first: str = Field(description="the variant that answers every row")
    then: str = Field(
        description="the more accurate variant, for the rows of which the first is not sure"
    )


class ModelFile(Strict):
    """`model.toml`: what people decide about one model."""

    metric: str = Field(
        min_length=1,
        max_length=64,
        description='the quality metric, higher is better, such as "average_precision"',
    )
    max_batch_size: int = Field(
        ge=1,
        le=LARGEST_BATCH,
        description=f"the largest batch that may run at once, a whole number"
        f" from 1 to {LARGEST_BATCH}",
    )
    default_class: str = Field(
        description="the service class of requests that name none, one of [classes.*]"
    )
    classes: dict[Name, ClassEntry] = Field(
        min_length=1,
        max_length=MOST_CLASSES,
        description=f"at least one table [classes.<name>], at most {MOST_CLASSES}",
    )
    variants: list[VariantEntry] = Field(
        min_length=1,
        max_length=MOST_VARIANTS,
        description=f"at least one table [[variants]], at most {MOST_VARIANTS}",
    )
    cascades: list[CascadeEntry] = Field(
        default=[],
        max_length=MOST_VARIANTS,
        description=f"at most {MOST_VARIANTS} tables [[cascades]]",
    )
    before: list[dict[str, Any]] = Field(
        default=[],
        max_length=MOST_STEPS,
        description=f"at most {MOST_STEPS} tables [[before]], each a step before the network",
    )
    after: list[dict[str, Any]] = Field(
        default=[],
        max_length=MOST_STEPS,
        description=f"at most {MOST_STEPS} tables [[after]], each a step after the network",
    )
    finite: bool = Field(
        True,
        description="whether answers are finite numbers: true, or false where NaN and infinity are"
        " right ones",
    )


class CardFile(Strict):
    """Holds a card while it is read: the dataclasses of the core inherit this strictness."""

    card: Card


class CascadeFile(Strict):
    """The same for what was learned for a cascade."""

    card: CascadeCard
