"""What happened, in numbers and in words: metrics, statistics and logs."""

from gearshift.telemetry.board import beside, board
from gearshift.telemetry.energy import EnergyCollector, domains
from gearshift.telemetry.exemplars import packed, unpacked, with_exemplars
from gearshift.telemetry.frontier import FrontierWatch
from gearshift.telemetry.life import Life
from gearshift.telemetry.logs import configure as configure_logs
from gearshift.telemetry.merge import Fleet, Past, merged
from gearshift.telemetry.page import exposed, is_openmetrics
from gearshift.telemetry.prometheus import PrometheusTelemetry
from gearshift.telemetry.reloads import GenerationsCollector, ReloadsCollector

__all__ = [
    "EnergyCollector",
    "Fleet",
    "FrontierWatch",
    "GenerationsCollector",
    "Life",
    "Past",
    "PrometheusTelemetry",
    "ReloadsCollector",
    "beside",
    "board",
    "configure_logs",
    "domains",
    "exposed",
    "is_openmetrics",
    "merged",
    "packed",
    "unpacked",
    "with_exemplars",
]
