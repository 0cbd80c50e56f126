"""Where traces are to be sent, by the setting and by OpenTelemetry's own environment variables."""

from __future__ import annotations

from collections.abc import Mapping

from gearshift.errors import ConfigurationInvalid

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
"""The first that is set counts (OTLP Exporter Configuration, OpenTelemetry specification)."""


def destination(endpoint: str, environment: Mapping[str, str]) -> str:
    """The OTLP/gRPC endpoint; "" where nothing is to be traced. `endpoint` is the setting.

    `OTEL_SDK_DISABLED=true` and `OTEL_TRACES_EXPORTER=none` turn traces off wherever they would
    go. ConfigurationInvalid for what cannot be followed.
    """
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise ConfigurationInvalid(
            f"setting otel_endpoint: {endpoint!r} does not begin with http:// or https://;"
            " give the address of a collector's OTLP/gRPC receiver, as in http://localhost:4317"
        )
    found = endpoint or _first(ENDPOINTS, environment)[1]
    if not found or environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter == "none":
        return ""
    if exporter not in ("", "otlp"):
        raise ConfigurationInvalid(
            f"OTEL_TRACES_EXPORTER is {exporter!r}, but gearshift sends traces by OTLP only:"
            " unset it, or say otlp or none"
        )
    name, protocol = _first(PROTOCOLS, environment)
    if protocol not in ("", "grpc"):
        raise ConfigurationInvalid(
            f"{name} is {protocol!r}, but gearshift sends traces over gRPC only: set"
            " OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc, and the endpoint to the collector's gRPC"
            " port (mostly 4317)"
        )
    return found


def _first(names: tuple[str, ...], environment: Mapping[str, str]) -> tuple[str, str]:
    for name in names:
        value = environment.get(name, "").strip()
        if value:
            return name, value
    return "", ""
