"""Memory that this process holds, and what loading has needed and serving does not."""

from gearshift.executors.memory import give_back, own_memory, told

__all__ = ["give_back", "own_memory", "told"]
