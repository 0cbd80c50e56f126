"""Traces for OpenTelemetry: one span tree for each sampled request, sent to a collector.

Listens to the engine and the front door as `gearshift.ports.Tracing`. The packages of the extra
`otel` are imported only where traces are to be sent somewhere.
"""

from gearshift.tracing.destination import destination
from gearshift.tracing.setup import Share, Traces, environment_samples, require, start

__all__ = ["Share", "Traces", "destination", "environment_samples", "require", "start"]
