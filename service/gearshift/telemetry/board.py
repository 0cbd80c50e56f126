"""Everything that the page shows, as one JSON document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from gearshift import __version__
from gearshift.core.catalog import Cascade
from gearshift.core.frontier import STEP, ClassView, ModelView, Step, VariantView, with_cascades
from gearshift.telemetry.frontier import FrontierWatch
from gearshift.telemetry.refusals import merged

Beside = Mapping[str, Any]
"""What stands beside the figures: `models` (see `details`) and `refusals` of one process."""


def beside(body: bytes) -> dict[str, Any]:
    """From the bytes of another process; nothing where it had nothing to say yet."""
    return dict(json.loads(body)) if body else {}


def board(watch: FrontierWatch, told: Iterable[Beside], *, ready: bool, grpc_port: int) -> bytes:
    """The document. `told` is by process; `ready` whether requests are taken now, on the port
    `grpc_port` (0: not known yet).

    Times in milliseconds, rates a second, shares and accuracies from 0 to 1; null where there
    is nothing to judge by. `total` counts since the start, `ended` in the window.
    """
    view = watch.view()
    parts = list(told)
    static: dict[str, Any] = {}
    for part in parts:
        static = part.get("models") or static
    models = []
    for model in view.models:
        known = static.get(model.name, {})
        cascades = [Cascade(**each) for each in known.get("cascades", ())]
        models.append(_model(watch, with_cascades(model, cascades), known))
    document = {
        "version": __version__,
        "ready": ready,
        "grpc_port": grpc_port,
        "time": view.time,
        "window": view.window,
        "step": STEP,
        "models": models,
        "refusals": merged(part.get("refusals", ()) for part in parts),
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def _model(watch: FrontierWatch, model: ModelView, known: Mapping[str, Any]) -> dict[str, Any]:
    variants = known.get("variants", {})
    cascades = {each["name"]: each for each in known.get("cascades", ())}
    classes = known.get("classes", {})
    return {
        "name": model.name,
        **{key: known.get(key) for key in ("metric", "max_batch_size", "default_class")},
        "inputs": known.get("inputs", []),
        "outputs": known.get("outputs", []),
        "variants": [
            {
                **_variant(variant),
                **variants.get(variant.now.name, {}),
                "cascade": cascades.get(variant.now.name),
            }
            for variant in model.variants
        ],
        "classes": [
            {
                **_class(each),
                **classes.get(each.now.name, {}),
                "steps": [_step(step) for step in watch.steps(model.name, each.now.name)],
            }
            # Those of no known class come last.
            for each in sorted(model.classes, key=lambda each: not each.now.name)
        ],
    }


def _variant(variant: VariantView) -> dict[str, Any]:
    now = variant.now
    return {
        "name": now.name,
        "accuracy": now.accuracy,
        "declared": now.declared,
        "source": now.source,
        "live": now.live,
        "live_low": now.low,
        "live_high": now.high,
        "labels": now.labels,
        "fallen": now.fallen,
        "standing": now.standing,
        "resident": now.resident,
        "shadowed": now.shadowed,
        "agreed": now.agreed,
        "corrected": now.corrected,
        "corrected_low": now.corrected_low,
        "corrected_high": now.corrected_high,
        "p50_ms": _ms(now.p50),
        "p99_ms": _ms(now.p99),
        "rate": variant.rate,
        "share": variant.share,
        "answered": now.answered,
        "artifact_bytes": now.artifact_bytes,
    }


def _class(view: ClassView) -> dict[str, Any]:
    return {
        "name": view.now.name,
        "requests": view.requests,
        "attainment": view.attainment,
        "goodput": view.goodput,
        "served_accuracy": view.served_accuracy,
        "deficit": view.deficit,
        "waiting": view.now.waiting,
        "ended": {outcome: count for outcome, count in view.ended.items() if count},
        "total": {outcome: count for outcome, count in view.now.ended.items() if count},
    }


def _step(step: Step) -> list[float | None]:
    """Short, for there are many: attainment and requests a second."""
    attainment = None if step.attainment is None else round(step.attainment, 4)
    return [attainment, round(step.rate, 2)]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3
