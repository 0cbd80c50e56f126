"""Memory that loading has needed and serving does not."""

from gearshift.executors.memory import give_back

__all__ = ["give_back"]
