"""What live accuracies are kept of: every variant of a model, and every cascade as one more."""

from __future__ import annotations

import hashlib

from gearshift.core.cascade import as_variant
from gearshift.core.catalog import Cascade, Model, Variant


def gears(model: Model) -> tuple[Variant, ...]:
    """All variants, and the cascades after them."""
    return (*model.variants, *(as_one(model, cascade) for cascade in model.cascades))


def gear(model: Model, variant: Variant, cascade: str) -> Variant:
    """Whose answer it is for feedback: that of the cascade that it was given through, if any.

    A cascade keeps the sure rows with its first variant and gives the unsure ones to its second:
    neither lot says what its variant is worth, only both together say what the whole is.
    """
    for each in model.cascades:
        if each.name == cascade:
            return as_one(model, each)
    return variant


def as_one(model: Model, cascade: Cascade) -> Variant:
    """The cascade as if it were a variant. Its artifact is both of theirs and the threshold: with
    any other it begins anew."""
    parts = (
        model.by_name(cascade.first).artifact_sha256,
        model.by_name(cascade.then).artifact_sha256,
        repr(cascade.threshold),
    )
    return as_variant(cascade, hashlib.sha256(" ".join(parts).encode()).hexdigest())
