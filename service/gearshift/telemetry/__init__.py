"""What happened, in numbers and in words: metrics, statistics and logs."""

from gearshift.telemetry.board import beside, board
from gearshift.telemetry.energy import EnergyCollector, domains
from gearshift.telemetry.exemplars import packed, unpacked, with_exemplars
from gearshift.telemetry.frontier import FrontierWatch
from gearshift.telemetry.life import Life
from gearshift.telemetry.limits import LimitCollector
from gearshift.telemetry.logs import LEVELS as LOG_LEVELS
from gearshift.telemetry.logs import configure as configure_logs
from gearshift.telemetry.logs import show as show_logs
from gearshift.telemetry.merge import Fleet, Past, merged
from gearshift.telemetry.page import exposed, is_openmetrics
from gearshift.telemetry.placing import PlacedCollector
from gearshift.telemetry.prometheus import PrometheusTelemetry
from gearshift.telemetry.reloads import GenerationsCollector, ReloadsCollector
from gearshift.telemetry.residency import Decided, Held, ResidencyCollector

__all__ = [
    "LOG_LEVELS",
    "Decided",
    "EnergyCollector",
    "Fleet",
    "FrontierWatch",
    "GenerationsCollector",
    "Held",
    "Life",
    "LimitCollector",
    "Past",
    "PlacedCollector",
    "PrometheusTelemetry",
    "ReloadsCollector",
    "ResidencyCollector",
    "beside",
    "board",
    "configure_logs",
    "domains",
    "exposed",
    "is_openmetrics",
    "merged",
    "packed",
    "show_logs",
    "unpacked",
    "with_exemplars",
]
