"""What an executor keeps a loaded variant under."""

from __future__ import annotations

from gearshift.core.catalog import Model, Variant

Key = tuple[str, str, int]


def key(model: Model, variant: Variant) -> Key:
    """Two generations of a model may be loaded at the same time. What is learned about a variant
    makes new objects of it, so that the object itself is no key."""
    return model.name, variant.name, model.generation
