"""Reports in, rulings out: each report is counted once, whoever sends it, however often."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from gearshift.core.catalog import Catalog
from gearshift.core.reports import Report, Result, Ruling, mistake
from gearshift.errors import FeedbackUnavailable
from gearshift.feedback.answers import Readings
from gearshift.feedback.book import Book
from gearshift.feedback.recorder import WRITE_EVERY, Recorder
from gearshift.feedback.retry import BROKEN, Retry
from gearshift.feedback.store import Key, Known, Record, Store, key_of

log = structlog.get_logger(__name__)

ANSWER_WITHIN = 30.0
"""Seconds that a message of reports may take."""

FLUSH_WITHIN = 5.0
"""Seconds that writing the answers held here may take, when one is asked for that is not there."""

THREADS = 2
MOST_WAITING = 100
"""Messages of reports that are under way; more are refused."""

COUNTED = Result(Ruling.COUNTED)
AMBIGUOUS = Result(
    Ruling.AMBIGUOUS, "several answers went out under this id; give each request an id of its own"
)
UNKNOWN_ID = Result(
    Ruling.UNKNOWN_ID, "no answer with this id is known, or none any more: the oldest are forgotten"
)


class Reporting:
    """Fills `gearshift.ports.Feedback`. `elsewhere` says that other processes answer as well,
    whose answers may reach the database a moment later; `learned` is called (on another thread)
    when something was counted. `clock` gives seconds since the epoch."""

    def __init__(
        self,
        catalog: Catalog,
        store: Store,
        recorder: Recorder,
        readings: Readings,
        book: Book,
        *,
        elsewhere: bool,
        learned: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._models = catalog.models
        self._store = store
        self._recorder = recorder
        self._readings = readings
        self._book = book
        self._elsewhere = elsewhere
        self._learned = learned
        self._clock = clock
        self._waiting = 0
        self._closing = threading.Event()
        self._retry = Retry("reports are not taken")
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="feedback")

    def follow(self, catalog: Catalog) -> None:
        """Reports are about the models of this catalog from now on."""
        self._models = catalog.models

    async def report(self, reports: Sequence[Report]) -> list[Result]:
        """One result each, in order; what is counted is durable. FeedbackUnavailable if that
        cannot be done now: sending the same again later counts nothing twice."""
        if not reports:
            return []
        if self._waiting >= MOST_WAITING or self._closing.is_set():
            raise FeedbackUnavailable("too many reports at once; send them again a little later")
        self._waiting += 1
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, self._rule, reports)
        work.add_done_callback(self._over)
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                # What was begun goes on if its caller leaves: nobody can say how far it is.
                return await asyncio.shield(work)
        except TimeoutError:
            raise FeedbackUnavailable(
                "the feedback database does not answer in time; send the reports again later"
            ) from None

    def _over(self, work: asyncio.Future[list[Result]]) -> None:
        self._waiting -= 1
        if not work.cancelled():
            work.exception()  # taken note of, also where the caller has left

    def close(self, within: float) -> None:
        """Take nothing more; what is under way gets so many seconds."""
        self._closing.set()
        end = time.monotonic() + within
        while self._waiting and time.monotonic() < end:
            time.sleep(0.01)
        self._threads.shutdown(wait=False, cancel_futures=True)

    # --- on a thread -------------------------------------------------------------------

    def _rule(self, reports: Sequence[Report]) -> list[Result]:
        try:
            results = self._results(reports)
        except BROKEN as error:
            self._retry.failed(error)
            raise FeedbackUnavailable(
                "the feedback database fails; nothing of this message was counted that was not"
                " counted before, send it again later"
            ) from None
        self._retry.worked()
        for report, result in zip(reports, results, strict=True):
            self._book.reported(report.model if report.model in self._models else "", result)
        if any(result.ruling is Ruling.COUNTED for result in results):
            self._learned()
        return results

    def _results(self, reports: Sequence[Report]) -> list[Result]:
        keys = [key_of(report.model, report.request_id) for report in reports]
        told = [self._mistake(report) for report in reports]
        sound = (key for key, wrong in zip(keys, told, strict=True) if wrong is None)
        answered = self._find(list(dict.fromkeys(sound)))
        # Of several that could be counted under one id, the first is.
        first: dict[Key, int] = {}
        for at, key in enumerate(keys):
            told[at] = told[at] or _judge(reports[at], answered.get(key))
            if told[at] is None:
                first.setdefault(key, at)
        counted = self._count({key: reports[at] for key, at in first.items()}, answered)
        stands = {key: reports[first[key]].labels for key in counted}
        # An answer may be forgotten, and what was reported about it not.
        before = [
            key for key, result in zip(keys, told, strict=True) if result in (None, UNKNOWN_ID)
        ]
        stands |= self._store.counted(key for key in dict.fromkeys(before) if key not in counted)
        results = []
        for at, (key, report, result) in enumerate(zip(keys, reports, told, strict=True)):
            if key in counted and first[key] == at:
                results.append(COUNTED)
            elif key in stands and result in (None, UNKNOWN_ID):
                results.append(_again(report, stands[key]))
            else:
                results.append(result or UNKNOWN_ID)
        return results

    def _mistake(self, report: Report) -> Result | None:
        reading = self._readings.models.get(report.model)
        if reading is None:
            known = ", ".join(sorted(self._models)) or "none"
            unknown = f"no model {report.model[:100]!r} is served here; there are: {known}"
            return Result(Ruling.INVALID, self._readings.why_not.get(report.model, unknown))
        wrong = mistake(report, reading.kind, reading.classes)
        return Result(Ruling.INVALID, wrong) if wrong else None

    def _find(self, keys: Sequence[Key]) -> dict[Key, list[Known]]:
        """The answers, those too that are not in the database yet."""
        found = self._store.find(keys)
        missing = [key for key in keys if key not in found]
        if missing and self._recorder.flush(FLUSH_WITHIN):
            found |= self._store.find(missing)
            missing = [key for key in missing if key not in found]
        if missing and self._elsewhere:
            self._closing.wait(1.5 * WRITE_EVERY)
            found |= self._store.find(missing)
        return found

    def _count(
        self, reports: Mapping[Key, Report], answered: Mapping[Key, Sequence[Known]]
    ) -> set[Key]:
        """Count these but for those that were counted before; which they are."""
        now = self._clock()
        rows = [
            record
            for key in sorted(reports)
            for record in _records(key, reports[key], answered[key], now)
        ]
        return self._store.count(rows) if rows else set()


def _judge(report: Report, rows: Sequence[Known] | None) -> Result | None:
    """Why the report cannot be counted, from the answer that it is about; None if it can."""
    if not rows:
        return UNKNOWN_ID
    if any(row.ambiguous for row in rows):
        return AMBIGUOUS
    if len(report.labels) != rows[0].rows:
        return Result(
            Ruling.INVALID,
            f"{len(report.labels)} labels for a request of {rows[0].rows} rows; there is one for"
            " each",
        )
    # Some of its rows are forgotten already.
    return None if len(rows) == rows[0].rows else UNKNOWN_ID


def _again(report: Report, labels: tuple[int, ...]) -> Result:
    if report.labels == labels:
        return Result(Ruling.DUPLICATE, "counted before with the same labels")
    return Result(
        Ruling.CONFLICT, f"counted before with the labels {list(labels[:10])}, which stand"
    )


def _records(key: Key, report: Report, rows: Sequence[Known], now: float) -> Iterable[Record]:
    for known, label in zip(rows, report.labels, strict=True):
        yield {
            "model": key.model,
            "request_id": key.request_id,
            "row": known.row,
            "artifact": known.artifact,
            "answer": known.answer,
            "reference": known.reference,
            "label": label,
            "weight": report.weight,
            "reported_at": now,
        }
