"""Loading: the repository folder on disk becomes the immutable catalog, all of it or nothing."""

from gearshift.repository.changes import Changes, contents, names, reread, stamp, stamps
from gearshift.repository.loader import load

__all__ = ["Changes", "contents", "load", "names", "reread", "stamp", "stamps"]
