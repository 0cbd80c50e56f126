"""Loading: the repository folder on disk becomes the immutable catalog, all of it or nothing."""

from gearshift.repository.loader import Inspect, load

__all__ = ["Inspect", "load"]
