"""Loading: the repository folder on disk becomes the immutable catalog, all of it or nothing."""

from gearshift.repository.changes import Changes, Stamp, contents, names, reread, stamp, stamps
from gearshift.repository.loader import Inspect, load

__all__ = ["Changes", "Inspect", "Stamp", "contents", "load", "names", "reread", "stamp", "stamps"]
