"""What does not change while a catalog is served: cards, classes, signatures, as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from gearshift.core.card import Card
from gearshift.core.catalog import Catalog, Model, ServiceClass, Variant


def details(catalog: Catalog) -> dict[str, Any]:
    """By model: what people want to know beside the figures that move."""
    return {model.name: _model(model) for model in catalog.models.values()}


def _model(model: Model) -> dict[str, Any]:
    return {
        "metric": model.metric,
        "max_batch_size": model.max_batch_size,
        "default_class": model.default_class,
        "inputs": [asdict(spec) for spec in model.wire.inputs],
        "outputs": [asdict(spec) for spec in model.wire.outputs],
        "classes": {name: _class(each) for name, each in model.classes.items()},
        "variants": {variant.name: _variant(variant) for variant in model.variants},
        "cascades": [asdict(cascade) for cascade in model.cascades],
    }


def _class(service_class: ServiceClass) -> dict[str, Any]:
    """Without a limit: null."""
    budget, floor = service_class.budget, service_class.floor
    return {
        "budget_ms": budget * 1e3 if budget < math.inf else None,
        "min_accuracy": floor if floor > -math.inf else None,
        "late": service_class.late.value,
        "weight": service_class.weight,
    }


def _variant(variant: Variant) -> dict[str, Any]:
    return {
        "version": variant.version,
        "executor": variant.executor,
        "card": _card(variant.card) if variant.card is not None else None,
    }


def _card(card: Card) -> dict[str, Any]:
    return {
        "parameters": card.parameters,
        "artifact_sha256": card.artifact_sha256,
        "accuracy": asdict(card.accuracy),
        "further": [asdict(measurement) for measurement in card.further],
        "data": {
            "name": card.data.name,
            "source": card.data.source,
            "licence": card.data.licence,
            "evaluation_sha256": card.data.evaluation_sha256,
        },
        "recipe": {
            "description": card.recipe.description,
            "command": card.recipe.command,
            "tools": dict(card.recipe.tools),
        },
    }
