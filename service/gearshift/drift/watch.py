"""Watching the inputs of all models: some rows a second, compared on a thread of its own."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from gearshift.core.catalog import Catalog, Model
from gearshift.core.drift import LEAST_ROWS, Alarm, Shift, shift
from gearshift.drift.features import Array
from gearshift.drift.reference import NotWatchedError, Reference, read
from gearshift.drift.reservoir import Reservoir
from gearshift.ports import Batch

log = structlog.get_logger(__name__)

TICK = 5.0
"""Seconds between two looks at a model."""

ROWS_PER_TICK = 100
"""Rows of one model that are looked at, at most."""

WINDOW = 2_000
"""The latest of them that are compared with the samples."""

NAMED = 3
"""Features that a log line names."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How a model's inputs stand: over so many `rows`, and once they are enough to say
    something, by feature, the furthest first."""

    rows: int
    shifts: Mapping[str, Shift]
    drifted: bool

    @property
    def greatest(self) -> float:
        return max(each.psi for each in self.shifts.values())

    @property
    def mean(self) -> float:
        return sum(each.psi for each in self.shifts.values()) / len(self.shifts)


class _Window:
    """The latest rows of one model, each as the cells of its features."""

    def __init__(self, model: Model, reference: Reference, random: Callable[[], float]) -> None:
        self.generation = model.generation
        self.drift = Drift(0, {}, False)
        self._reference = reference
        self._random = random
        self._model = model.name
        self._alarm = Alarm()
        self._cells = np.zeros((len(reference.scales), WINDOW), np.uint8)
        self._added = 0
        self.reservoir = self._empty()
        """For the rows of this tick. Filled on another thread than all else here."""

    def look(self) -> None:
        """Take in what has come since the last look."""
        full = self.reservoir
        if full.rows:
            self.reservoir = self._empty()
            self._add(full.rows)

    def _empty(self) -> Reservoir:
        reference = self._reference
        return Reservoir(reference.tensor, reference.features, ROWS_PER_TICK, self._random)

    def _add(self, rows: Sequence[Array]) -> None:
        cells = self._reference.cells_of(np.stack(rows))
        self._cells[:, (self._added + np.arange(len(cells))) % WINDOW] = cells.T
        self._added += len(cells)
        self._compare(min(self._added, WINDOW))

    def _compare(self, rows: int) -> None:
        if rows < LEAST_ROWS:
            self.drift = Drift(rows, {}, False)
            return
        size = self._reference.size
        names = self._reference.features.names
        found = {}
        columns = self._cells[:, :rows]
        for name, scale, column in zip(names, self._reference.scales, columns, strict=True):
            counts = np.bincount(column, minlength=scale.cells).tolist()
            found[name] = shift(scale.shares, size, counts)
        changed = self._alarm.judge(list(found.values()))
        ordered = dict(sorted(found.items(), key=lambda each: -each[1].psi))
        self.drift = Drift(rows, ordered, self._alarm.drifted)
        if changed:
            self._tell()

    def _tell(self) -> None:
        drift = self.drift
        worst = {name: round(each.psi, 3) for name, each in list(drift.shifts.items())[:NAMED]}
        if drift.drifted:
            log.warning(
                "inputs have drifted away from the held-out samples: the model's accuracies may"
                " no longer hold",
                model=self._model,
                psi=worst,
                rows=drift.rows,
            )
        else:
            log.info(
                "inputs are again as the held-out samples",
                model=self._model,
                psi=worst,
                rows=drift.rows,
            )


class DriftWatch:
    """Fills `gearshift.ports.Journal`. `answered` only picks rows; all else is done on a thread
    between `start` and `close`."""

    def __init__(self, catalog: Catalog, seed: int | None = None) -> None:
        self._catalog = catalog
        self._random = random.Random(seed).random
        self._windows: dict[str, _Window] = {}
        self._prepared: dict[tuple[str, int], _Window] = {}
        """Of models that are not served yet, by name and generation."""
        self._started = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="drift", daemon=True)

    # --- the engine's side -------------------------------------------------------------

    def answered(self, batch: Batch) -> None:
        """Some rows may be taken; none where the inputs are no longer there. Does not raise: a
        model for which it cannot be done is given up."""
        window = self._windows.get(batch.model.name)
        # Another generation may have other inputs, and other samples to compare them with.
        if window is not None and batch.inputs and window.generation == batch.model.generation:
            try:
                window.reservoir.offer(batch)
            except Exception as error:  # noqa: BLE001 - answers go out whatever broke
                self._give_up(batch.model.name, error)

    def shadowed(self, batch: Batch) -> None:
        """Their inputs have been seen before."""

    # --- the thread --------------------------------------------------------------------

    def start(self) -> None:
        """Read the samples of all models, and watch from now on those that have some."""
        self.prepare(self._catalog.models.values())
        self.follow(self._catalog)
        self._started = True
        self._begin()

    def _begin(self) -> None:
        if self._started and self._windows and self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """Stop watching. Waits for a look under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(TICK)

    def _watch(self) -> None:
        # One after the other with pauses: while this thread works, the loop has to wait for it.
        while not self._stopping.is_set():
            names = list(self._windows) or [""]
            for name in names:
                if self._stopping.wait(TICK / len(names)):
                    return
                self.look(name)

    def prepare(self, models: Iterable[Model]) -> None:
        """Read the samples, on any thread; a model without, or with some that do not fit, is told
        and left out."""
        for model in models:
            name = model.name
            try:
                reference = read(model)
            except NotWatchedError as reason:
                log.info("inputs are not watched for drift", model=name, reason=str(reason))
            except Exception:
                log.exception("inputs are not watched for drift", model=name)
            else:
                key = (name, model.generation)
                self._prepared[key] = _Window(model, reference, self._random)

    def follow(self, catalog: Catalog) -> None:
        """Watch the models of this catalog from now on; those that are new were prepared."""
        windows = {}
        for name, model in catalog.models.items():
            window = self._windows.get(name)
            if window is None or window.generation != model.generation:
                window = self._prepared.get((name, model.generation))
            if window is not None:
                windows[name] = window
        self._prepared.clear()
        self._windows = windows
        self._begin()

    def look(self, model: str) -> None:
        """Compare what has come in for a model since the last look."""
        window = self._windows.get(model)
        if window is not None:
            try:
                window.look()
            except Exception as error:  # noqa: BLE001 - the other models are watched on
                self._give_up(model, error)

    def _give_up(self, model: str, error: Exception) -> None:
        if self._windows.pop(model, None) is not None:
            log.error("inputs are no longer watched for drift", model=model, exc_info=error)

    # --- what is known -----------------------------------------------------------------

    @property
    def drifts(self) -> Mapping[str, Drift]:
        """By model, for those that are watched."""
        return {name: window.drift for name, window in list(self._windows.items())}
