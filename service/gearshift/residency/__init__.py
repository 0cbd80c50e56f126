"""What should be loaded where, by a mixed-integer program (extra `simulate`)."""

from gearshift.residency.program import Program

__all__ = ["Program"]
