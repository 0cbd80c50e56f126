"""Loading: the repository folder on disk becomes the immutable catalog, all of it or nothing."""

from gearshift.repository.loader import load

__all__ = ["load"]
