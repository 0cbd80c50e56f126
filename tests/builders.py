"""Small catalogs, profiles and tickets for tests, with short names for what varies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gearshift.core.catalog import (
    Catalog,
    Late,
    Model,
    ServiceClass,
    Signature,
    TensorSpec,
    Variant,
)
from gearshift.core.profile import LatencyPoint, Profile, Profiles
from gearshift.core.request import Ticket

ONE_VECTOR = Signature(
    inputs=(TensorSpec("x", "FP32", (3,)),), outputs=(TensorSpec("y", "FP32", (1,)),)
)


def make_variant(name: str, version: int, accuracy: float) -> Variant:
    return Variant(
        name=name,
        version=version,
        executor="fake",
        accuracy=accuracy,
        source="declared",
        artifact=f"{name}.bin",
        artifact_bytes=1000,
    )


def make_model(
    name: str = "m",
    accuracies: Mapping[str, float] | None = None,
    classes: Sequence[ServiceClass] = (ServiceClass("default"),),
    max_batch_size: int = 8,
    signature: Signature = ONE_VECTOR,
) -> Model:
    """Variants are numbered in the order given and sorted like the loader sorts them."""
    accuracies = accuracies or {"large": 0.95, "small": 0.80}
    variants = [
        make_variant(variant, version, accuracy)
        for version, (variant, accuracy) in enumerate(accuracies.items(), start=1)
    ]
    return Model(
        name=name,
        metric="top1",
        max_batch_size=max_batch_size,
        signature=signature,
        classes={c.name: c for c in classes},
        default_class=classes[0].name,
        variants=tuple(sorted(variants, key=lambda v: -v.accuracy)),
    )


def make_catalog(*models: Model) -> Catalog:
    return Catalog(1, {model.name: model for model in models})


def make_profiles(
    catalog: Catalog,
    seconds: Mapping[str, tuple[float, float]],
    device: str = "cpu",
) -> Profiles:
    """By variant name: seconds of overhead per batch, and seconds per row."""
    profiles = []
    for model in catalog.models.values():
        for variant in model.variants:
            fixed, per_row = seconds[variant.name]
            points = [
                LatencyPoint(rows, fixed + per_row * rows, fixed + per_row * rows)
                for rows in (1, model.max_batch_size)
            ]
            profiles.append(Profile(variant, device, points, model.max_batch_size))
    return Profiles(catalog.models, profiles)


def make_ticket(
    ticket_id: int = 1,
    *,
    model: str = "m",
    arrival: float = 0.0,
    budget: float = math.inf,
    floor: float = -math.inf,
    rows: int = 1,
    variant: str | None = None,
    late: Late = Late.DROP,
    service_class: str = "default",
    generation: int = 1,
) -> Ticket:
    return Ticket(
        id=ticket_id,
        model=model,
        service_class=service_class,
        arrival=arrival,
        deadline=arrival + budget,
        floor=floor,
        rows=rows,
        variant=variant,
        late=late,
        generation=generation,
    )
