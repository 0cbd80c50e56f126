"""What the catalog looks like on the wire: metadata, configuration, statistics, index."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from tritonclient.grpc import model_config_pb2
from tritonclient.grpc import service_pb2 as pb

from gearshift.core.catalog import Model, TensorSpec, Variant
from gearshift.errors import InvalidInput
from gearshift.ports import Tally, VariantStatistics

PLATFORM = "gearshift"


def version_of(model: Model, version: str) -> Variant | None:
    """The variant that a version string names; None for "" (all of them)."""
    if not version:
        return None
    if not (version.isascii() and version.isdigit()):
        raise InvalidInput(f"version {version!r} is not a whole number")
    return model.by_version(int(version))


def metadata(model: Model) -> Any:
    """ModelMetadataResponse: versions are the variants' numbers, shapes lead with -1."""
    return pb.ModelMetadataResponse(
        name=model.name,
        versions=[str(number) for number in sorted(v.version for v in model.variants)],
        platform=PLATFORM,
        inputs=[_tensor(spec) for spec in model.wire.inputs],
        outputs=[_tensor(spec) for spec in model.wire.outputs],
    )


def config(model: Model) -> Any:
    """ModelConfigResponse: dims without the batch dimension; variants, classes and steps as
    parameters, for people who look."""
    made = model_config_pb2.ModelConfig(
        name=model.name,
        platform=PLATFORM,
        backend=PLATFORM,
        max_batch_size=model.max_batch_size,
        input=[
            model_config_pb2.ModelInput(name=s.name, data_type=_type(s), dims=s.shape)
            for s in model.wire.inputs
        ],
        output=[
            model_config_pb2.ModelOutput(name=s.name, data_type=_type(s), dims=s.shape)
            for s in model.wire.outputs
        ],
        dynamic_batching=model_config_pb2.ModelDynamicBatching(),
    )
    made.version_policy.all.SetInParent()
    _set_priorities(made.dynamic_batching, model)
    for variant in model.variants:
        made.parameters[f"variant.{variant.version}"].string_value = variant.name
    made.parameters["metric"].string_value = model.metric
    made.parameters["default_class"].string_value = model.default_class
    for before in model.before:
        network = ", ".join(f"{s.name} {s.datatype} {list(s.shape)}" for s in before.makes)
        made.parameters[f"before.{before.takes.name}"].string_value = f"{before.kind}: {network}"
    for after in model.after:
        made.parameters[f"after.{after.makes.name}"].string_value = f"{after.kind}: {after.of}"
    return pb.ModelConfigResponse(config=made)


def _set_priorities(batching: Any, model: Model) -> None:
    """The levels that Triton has, where classes have priorities."""
    levels = [each.priority for each in model.classes.values() if each.priority is not None]
    default = model.classes[model.default_class].priority
    if levels and default is not None:
        batching.priority_levels = max(levels)
        batching.default_priority_level = default
        for each in model.classes.values():
            if each.priority is not None and each.budget < math.inf:
                policy = batching.priority_queue_policy[each.priority]
                policy.default_timeout_microseconds = round(each.budget * 1e6)
                policy.allow_timeout_override = True


def statistics(model: Model, variant: Variant, counted: VariantStatistics) -> Any:
    """ModelStatistics of one variant, with Triton's meaning of every field."""
    return pb.ModelStatistics(
        name=model.name,
        version=str(variant.version),
        last_inference=counted.last_inference_ms,
        inference_count=counted.inferences,
        execution_count=counted.executions,
        inference_stats=pb.InferStatistics(
            success=_tally(counted.success),
            fail=_tally(counted.fail),
            queue=_tally(counted.queue),
            compute_input=_tally(counted.compute_input),
            compute_infer=_tally(counted.compute_infer),
            compute_output=_tally(counted.compute_output),
            # Nothing is cached; but over HTTP clients look for these by name.
            cache_hit=pb.StatisticDuration(),
            cache_miss=pb.StatisticDuration(),
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=size,
                compute_input=_tally(batch.compute_input),
                compute_infer=_tally(batch.compute_infer),
                compute_output=_tally(batch.compute_output),
            )
            for size, batch in sorted(counted.batches.items())
        ],
    )


def index(
    models: Iterable[Model],
    ready: bool,
    only_ready: bool,
    unserved: Mapping[str, str],
    not_resident: Callable[[str], Collection[str]],
) -> Any:
    """RepositoryIndexResponse: one line per variant, and one without a version for each folder that
    is not served, with the reason. `not_resident` names the variants of a model that are loaded
    nowhere."""
    response = pb.RepositoryIndexResponse()
    for model in models:
        away = not_resident(model.name)
        for variant in sorted(model.variants, key=lambda v: v.version):
            reason = "" if ready else "the server is starting or shutting down"
            if not reason and variant.name in away:
                reason = "not_resident: the memory of its devices holds others now"
            if not (reason and only_ready):
                response.models.add(
                    name=model.name,
                    version=str(variant.version),
                    state="UNAVAILABLE" if reason else "READY",
                    reason=reason,
                )
    if not only_ready:
        for name, reason in unserved.items():
            response.models.add(name=name, state="UNAVAILABLE", reason=reason)
    return response


def _tensor(spec: TensorSpec) -> Any:
    shape: Sequence[int] = (-1, *spec.shape)
    return pb.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.datatype, shape=shape
    )


def _type(spec: TensorSpec) -> Any:
    name = "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"
    return model_config_pb2.DataType.Value(name)


def _tally(tally: Tally) -> Any:
    return pb.StatisticDuration(count=tally.count, ns=tally.ns)
