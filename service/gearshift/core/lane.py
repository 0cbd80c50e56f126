"""A lane: the queue of one model's tickets, earliest deadline first."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass

from gearshift.core.profile import Profile
from gearshift.core.request import Ticket


@dataclass(slots=True, eq=False)
class Entry:
    """A waiting ticket with what the scheduler worked out about it at admission.

    `due` is what the queue is ordered by: the deadline, or for an overdue ticket whose
    late answer still has value, the later time it was moved to. `latest_start` is `due`
    minus the p99 of the fastest variant that the ticket accepts. `work` is the least
    worker time, in seconds, that answering it can cost.
    """

    ticket: Ticket
    fastest: Profile
    due: float
    latest_start: float
    work: float
    waiting: bool = True
    overdue: bool = False

    @property
    def key(self) -> tuple[float, int]:
        return (self.due, self.ticket.id)

    def accepts(self, profile: Profile) -> bool:
        """May this variant answer the ticket: the pinned one, or any at or above the floor."""
        variant = profile.variant
        if variant.accuracy < self.ticket.floor:
            return False
        return self.ticket.variant is None or self.ticket.variant == variant.name


class Lane:
    """One model's waiting tickets in order of due time, then of arrival."""

    __slots__ = ("_entries", "_keys", "model")

    def __init__(self, model: str) -> None:
        self.model = model
        self._keys: list[tuple[float, int]] = []
        self._entries: dict[tuple[float, int], Entry] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Entry]:
        entries = self._entries
        return (entries[key] for key in self._keys)

    def add(self, entry: Entry) -> None:
        insort(self._keys, entry.key)
        self._entries[entry.key] = entry

    def remove(self, entry: Entry) -> None:
        index = bisect_left(self._keys, entry.key)
        del self._keys[index]
        del self._entries[entry.key]

    @property
    def head(self) -> Entry:
        return self._entries[self._keys[0]]
