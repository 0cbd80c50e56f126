"""A fleet in virtual time: pods with the real scheduler, a balancer, scrapes, an autoscaler."""

from gearshift.simulate.fleet.balance import BALANCERS, Balancer
from gearshift.simulate.fleet.control import Behavior, Control, Policy
from gearshift.simulate.fleet.result import FleetResult, Moment
from gearshift.simulate.fleet.run import Plant, run_fleet
from gearshift.simulate.fleet.scalers import (
    Accuracy,
    Concurrency,
    Cpu,
    Fixed,
    Queue,
    Scaler,
)

__all__ = [
    "BALANCERS",
    "Accuracy",
    "Balancer",
    "Behavior",
    "Concurrency",
    "Control",
    "Cpu",
    "Fixed",
    "FleetResult",
    "Moment",
    "Plant",
    "Policy",
    "Queue",
    "Scaler",
    "run_fleet",
]
