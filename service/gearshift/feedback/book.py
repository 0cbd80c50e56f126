"""What feedback has counted and found, as plain values that metrics are made from."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from gearshift.core.live import Estimate
from gearshift.core.reports import Result

ByVariant = tuple[str, str]
"""Names of a model and of one of its variants."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One variant, or one cascade: what its labels say, what routing goes by, whether it has
    fallen, and whether no class with a floor that a variant was good for takes it any more."""

    live: Estimate | None
    used: float
    fallen: bool
    out: bool = False
    cascade: bool = False


class Book:
    """Written by several threads, read by those that make pages."""

    def __init__(self) -> None:
        self.dropped = 0
        """Rows that were not recorded; written by the engine's thread only."""
        self.reports: Counter[tuple[str, str]] = Counter()
        """By model ("" for a name that is unknown) and ruling."""
        self.shadows: Counter[tuple[str, str, str, bool]] = Counter()
        """Rows by model, variant, service class, and whether the two agreed."""
        self.failing = {"answers": False, "accuracies": False}
        """Whether the database failed the last time that answers were written, or accuracies
        looked for."""
        self.standings: Mapping[ByVariant, Standing] = {}
        self.shadow_accuracy: Mapping[ByVariant, Estimate] = {}
        """Both are replaced as a whole."""
        self._lock = threading.Lock()

    def forget(self, model: str) -> None:
        """Show nothing of this model any more."""
        with self._lock:
            for key in [key for key in self.reports if key[0] == model]:
                del self.reports[key]
            for shadow in [key for key in self.shadows if key[0] == model]:
                del self.shadows[shadow]

    def reported(self, model: str, result: Result) -> None:
        with self._lock:
            self.reports[model, result.ruling.value] += 1

    def shadowed(self, model: str, variant: str, service_class: str, agreed: bool) -> None:
        with self._lock:
            self.shadows[model, variant, service_class, agreed] += 1
