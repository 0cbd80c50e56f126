"""Tracing put together: where spans go, which requests are sampled, who says that it is us."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import structlog

from gearshift import __version__
from gearshift.errors import ConfigurationInvalid
from gearshift.ports import Tracing
from gearshift.tracing.destination import ENDPOINTS

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from gearshift.tracing.requests import Sampling

log = structlog.get_logger(__name__)

SPANS_TOGETHER = 32
"""Spans that are encoded at once unless OTEL_BSP_MAX_EXPORT_BATCH_SIZE says otherwise: about two
milliseconds in which whoever serves may have to wait for the interpreter. The SDK's 512 are 30."""


PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.grpc")
"""Of the extra `otel`."""


class Share(NamedTuple):
    """Which requests are traced: none at all unless `on`, else this share beside those whose
    callers say so; None for who was traced at the start."""

    on: bool
    ratio: float | None


class Traces(Tracing, Protocol):
    """Tracing as the composition root holds it."""

    def sample(self, share: Share, models: Mapping[str, Share]) -> None:
        """So from now on, and otherwise for requests for these models. On the loop."""

    def close(self, within: float) -> None:
        """Send what is held, for at most so many seconds; what cannot be sent then is lost."""


def start(endpoint: str, ratio: float, process: int | None = None) -> Traces:
    """Trace to `endpoint` from now on. `endpoint` and `ratio`, the share of the requests without
    a traced caller, count where OpenTelemetry's own environment variables do not say otherwise;
    `process` is the number of this one of several.

    ConfigurationInvalid if the packages are missing or the environment cannot be followed.
    """
    require(endpoint)
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from gearshift.tracing.exporting import Exporting, Health
    from gearshift.tracing.requests import RequestTracing
    from gearshift.tracing.spans import Spans

    health = Health(endpoint)
    options: dict[str, Any] = {}
    if "OTEL_BSP_MAX_EXPORT_BATCH_SIZE" not in os.environ:
        options["max_export_batch_size"] = SPANS_TOGETHER
    try:
        exporter = Exporting(OTLPSpanExporter(endpoint=endpoint), health)
        processor = BatchSpanProcessor(exporter, **options)
        sampling = _sampling(ratio)
    except Exception as error:  # noqa: BLE001 - the SDK's errors share no base
        health.close()
        raise ConfigurationInvalid(
            f"traces cannot be sent to {endpoint} as the environment's OTEL_* variables say:"
            f" {error}"
        ) from None
    spans = Spans(_resource(process), processor)
    log.info("traces are sent", endpoint=endpoint, sampler=sampling.sampler.get_description())
    return RequestTracing(spans, sampling, exporter)


def require(endpoint: str) -> None:
    """ConfigurationInvalid if the packages are missing with which traces are sent."""
    for name in PACKAGES:
        try:
            found = find_spec(name) is not None
        except ModuleNotFoundError:  # a package that it is in
            found = False
        if not found:
            raise ConfigurationInvalid(
                f"traces are to be sent to {endpoint}, but the package {name} is not installed:"
                " `pip install 'gearshift[otel]'`, or unset the endpoint (setting otel_endpoint,"
                f" {', '.join(ENDPOINTS)})"
            )


def environment_samples() -> bool:
    """Whether the environment says which requests are traced, and not the setting."""
    return bool(os.environ.get("OTEL_TRACES_SAMPLER", "").strip())


def _sampling(ratio: float) -> Sampling:
    from opentelemetry.sdk.trace import TracerProvider

    from gearshift.tracing.requests import Sampling, by_ratio

    if environment_samples():
        # What a provider goes by that nobody has told anything.
        return Sampling(TracerProvider(shutdown_on_exit=False).sampler, None)
    return by_ratio(ratio)


def _resource(process: int | None) -> Resource:
    """Who the spans come from: what the environment says (OTEL_SERVICE_NAME,
    OTEL_RESOURCE_ATTRIBUTES), and what it does not say by ourselves."""
    from opentelemetry.sdk.resources import Resource

    told = Resource.create()
    attributes: dict[str, Any] = {"process.pid": os.getpid()}
    if str(told.attributes.get("service.name", "")).startswith("unknown_service"):
        attributes["service.name"] = "gearshift"
    if "service.version" not in told.attributes:
        attributes["service.version"] = __version__
    instance = told.attributes.get("service.instance.id")
    if instance is None:
        attributes["service.instance.id"] = str(uuid.uuid4())
    elif process is not None:
        # It must be another one in each process (semantic conventions, service).
        attributes["service.instance.id"] = f"{instance}/{process}"
    if process is not None:
        attributes["gearshift.process"] = process
    return told.merge(Resource(attributes))
