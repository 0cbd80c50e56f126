"""What happened, in numbers and in words: metrics, statistics and logs."""

from gearshift.telemetry.logs import configure as configure_logs
from gearshift.telemetry.prometheus import PrometheusTelemetry

__all__ = ["PrometheusTelemetry", "configure_logs"]
