"""Where traces go, by the setting and by OpenTelemetry's own environment variables."""

from __future__ import annotations

import pytest

from gearshift.errors import ConfigurationInvalid
from gearshift.tracing import destination

BASE, TRACES = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


@pytest.mark.parametrize(
    ("endpoint", "environment", "expected"),
    [
        ("", {}, ""),
        ("", {BASE: " "}, ""),
        ("", {BASE: "http://base:4317"}, "http://base:4317"),
        ("", {BASE: "http://base:4317", TRACES: "http://traces:4317"}, "http://traces:4317"),
        ("https://said:4317", {BASE: "http://base:4317"}, "https://said:4317"),
        ("", {BASE: "http://base:4317", "OTEL_SDK_DISABLED": "TRUE"}, ""),
        ("http://said:4317", {"OTEL_TRACES_EXPORTER": "none"}, ""),
        ("", {BASE: "b:4317", "OTEL_TRACES_EXPORTER": "otlp"}, "b:4317"),
        ("", {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ""),
        (
            "http://said:4317",
            {
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
            },
            "http://said:4317",
        ),
    ],
)
def test_the_setting_and_the_environment_say_where(endpoint, environment, expected):
    assert destination(endpoint, environment) == expected


@pytest.mark.parametrize(
    ("endpoint", "environment", "complaint"),
    [
        ("collector:4317", {}, "setting otel_endpoint: 'collector:4317' does not begin with http"),
        (
            "http://c:4318",
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is 'http/protobuf'.*TRACES_PROTOCOL=grpc",
        ),
        ("http://c:4317", {"OTEL_TRACES_EXPORTER": "zipkin"}, "'zipkin'.*OTLP only"),
    ],
)
def test_what_cannot_be_followed_is_an_error(endpoint, environment, complaint):
    with pytest.raises(ConfigurationInvalid, match=complaint):
        destination(endpoint, environment)
