"""So many of the requests of one tick, each as likely as any other."""

from __future__ import annotations

import math
from collections.abc import Callable

from gearshift.drift.features import Array, Features
from gearshift.ports import Batch


class Reservoir:
    """A row each of at most `size` of the requests that are offered.

    Algorithm L (K.-H. Li, ACM Transactions on Mathematical Software 20(4), 1994): it draws how many
    requests to pass over until the next one that is taken, so that almost all batches cost an
    addition and a comparison. `random` gives numbers from [0, 1).
    """

    __slots__ = ("_features", "_next", "_random", "_size", "_tensor", "_w", "rows", "seen")

    def __init__(
        self, tensor: str, features: Features, size: int, random: Callable[[], float]
    ) -> None:
        self.seen = 0
        self.rows: list[Array] = []
        self._tensor = tensor
        self._features = features
        self._size = size
        self._random = random
        self._next = 0
        self._w = 1.0

    def offer(self, batch: Batch) -> None:
        """Some or none of these requests are taken."""
        begin = self.seen
        self.seen = end = begin + len(batch.requests)
        while self._next < end:
            self._take(batch, self._next - begin)

    def _take(self, batch: Batch, index: int) -> None:
        request = batch.requests[index]
        at = request.first + int(self._random() * request.rows)
        row = self._features.taken(batch.inputs[self._tensor][at])
        if len(self.rows) < self._size:
            self.rows.append(row)
        else:
            self.rows[int(self._random() * self._size)] = row
        self._next += 1
        if len(self.rows) == self._size:
            # Neither 1 - random() nor 1 - w may be 0, which has no logarithm.
            smaller = self._w * math.exp(math.log(1.0 - self._random()) / self._size)
            self._w = min(smaller, 1.0 - 1e-12)
            self._next += int(math.log(1.0 - self._random()) / math.log1p(-self._w))
