"""Measuring how long each variant takes here, and remembering it per hardware."""

from gearshift.profiling.hardware import Hardware, hardware_id
from gearshift.profiling.measure import measure
from gearshift.profiling.run import profile_catalog, warm_up
from gearshift.profiling.store import ProfileStore, Taken

__all__ = [
    "Hardware",
    "ProfileStore",
    "Taken",
    "hardware_id",
    "measure",
    "profile_catalog",
    "warm_up",
]
