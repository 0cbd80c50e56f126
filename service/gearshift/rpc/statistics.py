"""ModelStatistics as bytes: of one process, and of several added up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from gearshift.engine import Engine
from gearshift.rpc import describe

STAGES = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


def of_process(engine: Engine) -> bytes:
    """What this process has counted, of every variant."""
    return bytes(
        pb.ModelStatisticsResponse(
            model_stats=[
                describe.statistics(
                    model, variant, engine.telemetry.statistics(model.name, variant.version)
                )
                for model in engine.catalog.models.values()
                for variant in model.variants
            ]
        ).SerializeToString()
    )


def summed(parts: Iterable[bytes]) -> bytes:
    """What several have counted, together; one that had nothing to say yet is empty."""
    sums: dict[tuple[str, str], Any] = {}
    for part in parts:
        for one in pb.ModelStatisticsResponse.FromString(part).model_stats:
            known = sums.setdefault((one.name, one.version), one)
            if known is not one:
                _add(known, one)
    return bytes(pb.ModelStatisticsResponse(model_stats=sums.values()).SerializeToString())


def by_version(told: bytes) -> dict[tuple[str, str], Any]:
    """ModelStatistics by model and version."""
    stats = pb.ModelStatisticsResponse.FromString(told).model_stats
    return {(one.name, one.version): one for one in stats}


def _add(known: Any, more: Any) -> None:
    known.last_inference = max(known.last_inference, more.last_inference)
    known.inference_count += more.inference_count
    known.execution_count += more.execution_count
    for stage in STAGES:
        _lengthen(getattr(known.inference_stats, stage), getattr(more.inference_stats, stage))
    sizes = {batch.batch_size: batch for batch in known.batch_stats}
    for batch in more.batch_stats:
        same = sizes.get(batch.batch_size)
        if same is None:
            known.batch_stats.append(batch)
        else:
            for stage in ("compute_input", "compute_infer", "compute_output"):
                _lengthen(getattr(same, stage), getattr(batch, stage))
    known.batch_stats.sort(key=lambda batch: batch.batch_size)


def _lengthen(known: Any, more: Any) -> None:
    known.count += more.count
    known.ns += more.ns
