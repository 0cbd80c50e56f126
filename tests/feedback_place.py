"""One process with feedback over three small models: all parts, on whatever database."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from builders import make_catalog, make_model
from gearshift.core.catalog import Catalog, Signature, TensorSpec
from gearshift.core.reports import Report, Result
from gearshift.feedback import Book, Learner, Readings, Recorder, Reporting, Store
from gearshift.ports import Batch, Row

CLASSES = Signature((TensorSpec("x", "FP32", (3,)),), (TensorSpec("y", "FP32", (4,)),))
SCORE = Signature((TensorSpec("x", "FP32", (3,)),), (TensorSpec("y", "FP32", (1,)),))
NOW = 1_700_000_000.0


def make_feedback_catalog() -> Catalog:
    """`kinds` names one of four classes, `risk` gives a score, `faces` embeddings."""
    kinds = make_model("kinds", signature=CLASSES)
    risk = replace(make_model("risk", signature=SCORE), metric="average_precision")
    faces = replace(make_model("faces", signature=CLASSES), metric="rank1")
    return make_catalog(kinds, risk, faces)


class Place:
    """One process with feedback: all parts, whose threads are not started."""

    def __init__(self, url: str, rows: int = 1_000, days: float = 30, **options: bool) -> None:
        self.now = NOW
        self.told: list[tuple[str, dict[str, float]]] = []
        self.catalog = make_feedback_catalog()
        self.book = Book()
        self.readings = Readings(self.catalog)
        self.store = Store(url, rows, days)
        self.recorder = Recorder(self.store, self.readings, self.book, lambda: self.now)
        self.reporting = Reporting(
            self.catalog,
            self.store,
            self.recorder,
            self.readings,
            self.book,
            elsewhere=options.get("elsewhere", False),
            clock=lambda: self.now,
        )
        self.learner = Learner(
            self.catalog,
            self.store,
            self.readings,
            self.book,
            lambda model, used: self.told.append((model, dict(used))),
        )

    def batch(self, model: str, answers, ids, **options) -> Batch:
        return self.batch_of(self.catalog, model, answers, ids, **options)

    @staticmethod
    def batch_of(catalog: Catalog, model: str, answers, ids, variant="small", rows=1) -> Batch:
        """Requests of `rows` rows each. Answers: the class, or the score."""
        known = catalog.model(model)
        values = np.asarray(answers)
        if known.metric == "average_precision":
            outputs = values.astype(np.float32).reshape(-1, 1)
        else:
            outputs = np.full((len(values), 4), 0.1, np.float32)
            outputs[np.arange(len(values)), values] = 0.7
        requests = [
            Row(request_id.encode(), "default", at * rows, rows)
            for at, request_id in enumerate(ids)
        ]
        return Batch(known, known.by_name(variant), "", {}, {"y": outputs}, requests)

    def answer(self, model: str, answers, ids, **options) -> None:
        self.recorder.answered(self.batch(model, answers, ids, **options))
        self.recorder.write()

    def report(self, model: str, labels, ids, weight: float = 1.0) -> list[Result]:
        """One label each."""
        return self.rule(
            [
                Report(model, i.encode(), (label,), weight)
                for i, label in zip(ids, labels, strict=True)
            ]
        )

    def rule(self, reports: list[Report]) -> list[Result]:
        return self.reporting._rule(reports)

    def close(self) -> None:
        self.reporting.close(5)
        self.store.close()
