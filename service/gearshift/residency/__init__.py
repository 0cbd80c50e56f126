"""What should be loaded where, by a mixed-integer program (extra `residency`)."""

from gearshift.residency.program import Program

__all__ = ["Program"]
