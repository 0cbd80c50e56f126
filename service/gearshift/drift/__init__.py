"""Watches whether live inputs still look like the held-out samples that accuracies come from."""

from gearshift.drift.metrics import DriftCollector
from gearshift.drift.watch import DriftWatch

__all__ = ["DriftCollector", "DriftWatch"]
