"""What happened, in numbers and in words: metrics, statistics and logs."""

from gearshift.telemetry.logs import configure as configure_logs
from gearshift.telemetry.merge import Fleet, Past, merge
from gearshift.telemetry.prometheus import PrometheusTelemetry

__all__ = ["Fleet", "Past", "PrometheusTelemetry", "configure_logs", "merge"]
