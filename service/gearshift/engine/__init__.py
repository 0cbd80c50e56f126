"""The asynchronous shell around the core: feeds it events, carries out what it decides."""

from gearshift.engine.clock import LoopClock
from gearshift.engine.doorkeeper import SOMEBODY, Caller, Doorkeeper
from gearshift.engine.engine import Engine
from gearshift.engine.flight import Answer, Flight, Reply, Run
from gearshift.engine.journal import Journals
from gearshift.engine.log_keys import of_request, of_requests

__all__ = [
    "SOMEBODY",
    "Answer",
    "Caller",
    "Doorkeeper",
    "Engine",
    "Flight",
    "Journals",
    "LoopClock",
    "Reply",
    "Run",
    "of_request",
    "of_requests",
]
