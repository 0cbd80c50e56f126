"""The work that waits, summed by due time, over all lanes.

Answers the one question that admission and the choice of a variant share: how much
worker time is due before a given moment. The entries stand in blocks of bounded size,
each with its sum, so that a question costs the number of blocks plus one block.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

BLOCK = 32
"""Entries after which a block is split in two halves of this size."""


class _Block:
    __slots__ = ("items", "work")

    def __init__(self, items: list[tuple[float, int, float]]) -> None:
        self.items = items
        self.work = sum(item[2] for item in items)


class Backlog:
    """Waiting work in seconds, keyed by (due time, ticket id)."""

    __slots__ = ("_blocks", "_lasts", "_size")

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._lasts: list[tuple[float, int]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, due: float, ticket_id: int, work: float) -> None:
        self._size += 1
        item = (due, ticket_id, work)
        if not self._blocks:
            self._blocks.append(_Block([item]))
            self._lasts.append((due, ticket_id))
            return
        index = min(bisect_left(self._lasts, (due, ticket_id)), len(self._blocks) - 1)
        block = self._blocks[index]
        insort(block.items, item)
        block.work += work
        if len(block.items) >= 2 * BLOCK:
            self._blocks.insert(index + 1, _Block(block.items[BLOCK:]))
            self._blocks[index] = block = _Block(block.items[:BLOCK])
            self._lasts.insert(index + 1, self._lasts[index])
        self._lasts[index] = block.items[-1][:2]

    def remove(self, due: float, ticket_id: int, work: float) -> None:
        self._size -= 1
        index = bisect_left(self._lasts, (due, ticket_id))
        block = self._blocks[index]
        del block.items[bisect_left(block.items, (due, ticket_id, work))]
        if block.items:
            # Summed anew, so that thousands of additions and removals leave no residue.
            block.work = sum(item[2] for item in block.items)
            self._lasts[index] = block.items[-1][:2]
        else:
            del self._blocks[index]
            del self._lasts[index]

    def up_to(self, moment: float) -> float:
        """Seconds of waiting work that is due at `moment` or before."""
        total = 0.0
        for block in self._blocks:
            if block.items[-1][0] <= moment:
                total += block.work
                continue
            end = bisect_right(block.items, moment, key=lambda item: item[0])
            return total + sum(item[2] for item in block.items[:end])
        return total

    def demand(self) -> Iterator[tuple[float, float]]:
        """(moment, seconds of work due by then), rising: the nearest block entry by entry,
        the others at their ends. Work without a due time is left out."""
        total = 0.0
        for index, block in enumerate(self._blocks):
            if index == 0:
                for due, _, work in block.items:
                    total += work
                    if due < float("inf"):
                        yield due, total
            else:
                total += block.work
                if block.items[-1][0] < float("inf"):
                    yield block.items[-1][0], total
