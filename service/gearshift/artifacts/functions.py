"""How many nodes a graph comes to once functions stand in place of their calls.

A few functions that call each other twice double with each: a small file becomes a graph that fills
the memory. So this is counted, not done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

Call = tuple[str, str]
"""What a node calls: its domain and the name of the operator or function."""


def expanded(main: Counter[Call], bodies: Mapping[Call, Counter[Call]], most: int) -> int:
    """The nodes of a graph that makes the calls `main`, where each of `bodies` is a function by
    the calls in it. Beyond `most` the number is not exact. ValueError if functions call each other
    in a circle."""
    sizes: dict[Call, int] = {}
    under_way: set[Call] = set()
    # A stack of our own: functions may be many deep.
    todo = [call for call in main if call in bodies]
    while todo:
        call = todo[-1]
        if call in sizes:
            todo.pop()
            continue
        inner = [each for each in bodies[call] if each in bodies and each not in sizes]
        if inner and call in under_way:
            raise ValueError(f"function {call[1]!r} calls itself, over others or at once")
        under_way.add(call)
        if inner:
            todo += inner
            continue
        sizes[call] = min(most + 1, _size(bodies[call], sizes))
        todo.pop()
    return _size(main, sizes)


def _size(calls: Counter[Call], sizes: Mapping[Call, int]) -> int:
    return sum(count * sizes.get(call, 1) for call, count in calls.items())
