"""What happened, in numbers and in words: metrics, statistics and logs."""

from gearshift.telemetry.board import beside, board
from gearshift.telemetry.frontier import FrontierWatch
from gearshift.telemetry.life import Life
from gearshift.telemetry.logs import configure as configure_logs
from gearshift.telemetry.merge import Fleet, Past, merged, page_of
from gearshift.telemetry.prometheus import PrometheusTelemetry

__all__ = [
    "Fleet",
    "FrontierWatch",
    "Life",
    "Past",
    "PrometheusTelemetry",
    "beside",
    "board",
    "configure_logs",
    "merged",
    "page_of",
]
