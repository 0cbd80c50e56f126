"""The latest refusals with what their callers were told, for people who look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from gearshift.errors import Outcome
from gearshift.ports import Settled

KEPT = 50

MESSAGE = 400
"""Characters kept of a message: it may quote what a caller sent."""


@dataclass(slots=True)
class Refusal:
    """One request that got no answer, or several of one second that were refused alike: how
    many, and the message of the last. `time` is seconds since the epoch."""

    time: float
    model: str
    service_class: str
    variant: str
    outcome: str
    status: str
    message: str
    count: int = 1


_Key = tuple[int, str, str, str, Outcome, str]


class Refusals:
    """Filled on the way of every refused request, of which there may be thousands a second:
    those of one second that are alike take one place, so that they do not drive out the rest."""

    def __init__(self) -> None:
        self._kept: dict[_Key, Refusal] = {}

    def add(self, event: Settled, now: float) -> None:
        """Keep one, unless its caller left by itself. `now` is seconds since the epoch."""
        if event.outcome is Outcome.CANCELLED:
            return
        model, service_class, variant = event.model, event.service_class, event.variant
        key = (int(now), model, service_class, variant, event.outcome, event.status)
        known = self._kept.get(key)
        if known is not None:
            known.count += 1
            known.message = event.message[:MESSAGE]
            return
        outcome = event.outcome.value
        self._kept[key] = Refusal(
            now, model, service_class, variant, outcome, event.status, event.message[:MESSAGE]
        )
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]

    def latest(self) -> list[dict[str, Any]]:
        """The newest first, as JSON objects. From any thread."""
        return [asdict(refusal) for refusal in reversed(list(self._kept.values()))]


def merged(lists: Iterable[Iterable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Those of several processes as one list, the newest first."""
    every = [refusal for one in lists for refusal in one]
    return sorted(every, key=lambda refusal: -refusal["time"])[:KEPT]
