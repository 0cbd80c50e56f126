"""Records answers without anybody waiting for it: the engine hands batches over, a thread writes
what is kept of them about once a second."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import structlog
from sqlalchemy.exc import DataError, IntegrityError

from gearshift.core.catalog import Model, Variant
from gearshift.engine import of_requests
from gearshift.feedback.answers import Reading, Readings
from gearshift.feedback.book import Book
from gearshift.feedback.gears import gear
from gearshift.feedback.retry import BROKEN, Retry
from gearshift.feedback.store import Answered, Entry, Key, Store, stored_id
from gearshift.ports import Array, Batch, Row

log = structlog.get_logger(__name__)

WRITE_EVERY = 1.0
"""Seconds."""

MOST_HELD = 64 * 2**20
"""Bytes of answers that wait to be written, about; what comes beyond is not kept."""

REQUEST_BYTES = 300
"""What a request takes while it waits, beside its outputs."""

WRITTEN_TOGETHER = 5_000
"""Rows in one transaction, about: others want to write as well."""


class _Held(NamedTuple):
    model: Model
    reading: Reading
    variant: Variant
    cascade: str
    outputs: Array
    requests: Sequence[Row]
    at: float
    shadow: bool
    nonce: int


class _NotRecorded(Exception):
    """These answers cannot be read; its cause says why."""

    def __init__(self, request_ids: Sequence[bytes]) -> None:
        super().__init__()
        self.request_ids = request_ids


class Recorder:
    """Fills `gearshift.ports.Journal`. `answered` and `shadowed` are called on one thread; all
    else is done on another, between `start` and `close`. `clock` gives seconds since the epoch."""

    def __init__(
        self,
        store: Store,
        readings: Readings,
        book: Book,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._readings = readings
        self._store = store
        self._book = book
        self._clock = clock
        self._queue: deque[_Held] = deque()
        self._taken = self._done = 0
        """Bytes that were ever held, and those of them that are no more. Each of the two is
        changed on one thread only."""
        self._handed = self._written = 0
        """Batches, likewise."""
        self._nonce = random.getrandbits(62)
        self._wake = threading.Event()
        self._stopping = False
        self._progress = threading.Condition()
        self._retry = Retry("answers are not recorded")
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    # --- the engine's side -------------------------------------------------------------

    def answered(self, batch: Batch) -> None:
        self._hold(batch, shadow=False)

    def shadowed(self, batch: Batch) -> None:
        self._hold(batch, shadow=True)

    def _hold(self, batch: Batch, *, shadow: bool) -> None:
        # Of the generation that answered: another one's outputs may be others.
        reading = self._readings.of(batch.model)
        if reading is None:
            return
        outputs = batch.outputs[reading.output]
        held = self._taken - self._done
        if held > MOST_HELD:
            self._book.dropped += sum(row.rows for row in batch.requests)
            return
        self._taken += outputs.nbytes + REQUEST_BYTES * len(batch.requests)
        self._handed += 1
        self._queue.append(
            _Held(
                batch.model,
                reading,
                batch.variant,
                batch.cascade,
                outputs,
                batch.requests,
                self._clock(),
                shadow,
                self._nonce,
            )
        )
        self._nonce += len(batch.requests)
        if held > MOST_HELD // 4:
            self._wake.set()

    # --- the thread --------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def close(self, within: float) -> None:
        """Write what is held, and stop; what cannot be written in so many seconds is lost."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(within)

    def flush(self, within: float) -> bool:
        """Write what is held by now; whether that was done in so many seconds."""
        handed = self._handed
        self._wake.set()
        with self._progress:
            return self._progress.wait_for(lambda: self._written >= handed, within)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(max(WRITE_EVERY, self._retry.pause))
            self._wake.clear()
            self.write()
        self.write()

    def write(self) -> None:
        """Write what is held, and keep the tables within their bounds."""
        try:
            while self._queue:
                self._write_some()
            self._store.prune(self._clock())
            self._retry.worked()
            self._book.failing["answers"] = False
        except BROKEN as error:
            self._retry.failed(error)
            self._book.failing["answers"] = True
        except _NotRecorded as error:
            # A batch that cannot be read must not stop all others.
            keys = of_requests(error.request_ids)
            log.error("some answers were not recorded", **keys, exc_info=error.__cause__)
        except Exception:
            log.exception("the tables of answers could not be kept within their bounds")

    def _write_some(self) -> None:
        taken: list[_Held] = []
        rows = 0
        # By number: the engine's thread adds to it meanwhile.
        while len(taken) < len(self._queue) and rows < WRITTEN_TOGETHER:
            taken.append(self._queue[len(taken)])
            rows += sum(row.rows for row in taken[-1].requests)
        try:
            self._enter(taken)
        except (DataError, IntegrityError):
            self._forget(taken)  # it would fail for ever
            raise
        except BROKEN:
            raise
        except Exception as error:
            self._forget(taken)
            ids = [row.request_id for held in taken for row in held.requests]
            raise _NotRecorded(ids) from error
        self._forget(taken)

    def _forget(self, taken: Sequence[_Held]) -> None:
        for held in taken:
            self._queue.popleft()
            self._done += held.outputs.nbytes + REQUEST_BYTES * len(held.requests)
        with self._progress:
            self._written += len(taken)
            self._progress.notify_all()

    def _enter(self, taken: Sequence[_Held]) -> None:
        answered: list[Entry] = []
        shadowed: list[Answered] = []
        readings: dict[str, Reading] = {}
        for held in taken:
            if held.shadow:
                shadowed += map(Answered._make, self._records(held))
                readings[held.model.name] = held.reading
            else:
                answered += self._records(held)
            # Between two batches other threads get their turn: the engine must not wait for all.
            time.sleep(0)
        if answered:
            self._store.record(answered)
        if shadowed:
            self._refer(shadowed, readings)

    def _records(self, held: _Held) -> Iterator[Entry]:
        """The rows as they are entered; a request with a row that is no number is left out."""
        columns = held.reading.read(held.outputs)
        finite = np.isfinite(columns[0])
        answers, probabilities = (column.tolist() for column in columns)
        model, cascade, at = held.model.name, held.cascade, held.at
        artifact = self._store.artifact(held.model, gear(held.model, held.variant, held.cascade))
        whole = bool(finite.all())
        for nonce, request in enumerate(held.requests, held.nonce):
            request_id, service_class, first, rows, fallback = request
            if not whole and not finite[first : first + rows].all():
                continue
            request_id = stored_id(request_id)
            for row in range(rows):
                yield (
                    model,
                    request_id,
                    row,
                    rows,
                    artifact,
                    service_class,
                    cascade,
                    fallback,
                    answers[first + row],
                    probabilities[first + row],
                    at,
                    nonce,
                )

    def _refer(self, shadowed: Sequence[Answered], readings: Mapping[str, Reading]) -> None:
        """Enter what the most accurate variant said, and count how often the two agree."""
        known = self._store.find({Key(said.model, said.request_id) for said in shadowed})
        pairs = [
            (said, answered)
            for said in shadowed
            for answered in known.get(Key(said.model, said.request_id), ())
            if answered.row == said.row and not answered.ambiguous
        ]
        if not pairs:
            return
        self._store.refer([said for said, _ in pairs])
        for said, answered in pairs:
            agreed = readings[said.model].agree(said.answer, answered.answer)
            variant = self._store.variant_of(answered.artifact)
            self._book.shadowed(said.model, variant, answered.service_class, agreed)
