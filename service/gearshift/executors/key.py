"""What an executor keeps a loaded variant under, and what it says where it has none."""

from __future__ import annotations

from typing import Any

from gearshift.core.catalog import Model, Variant
from gearshift.errors import ExecutorUnavailable

Key = tuple[str, str, int]


def key(model: Model, variant: Variant) -> Key:
    """Two generations of a model may be loaded at the same time. What is learned about a variant
    makes new objects of it, so that the object itself is no key."""
    return model.name, variant.name, model.generation


def not_loaded(model: Model, variant: Variant) -> ExecutorUnavailable:
    """For whoever asks for what nothing is kept under."""
    return ExecutorUnavailable(f"variant {variant.name!r} of model {model.name!r} is not loaded")


def log_left_out(log: Any, model: Model, variant: Variant, device: str, reason: str) -> None:
    """The variant is loaded on other devices, and not on this one."""
    log.warning(
        "variant does not run on a device",
        model=model.name,
        variant=variant.name,
        device=device,
        reason=reason,
    )
