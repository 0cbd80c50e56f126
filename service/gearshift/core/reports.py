"""What callers report about earlier answers, and what becomes of each report. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from gearshift.core.live import Kind

LEAST_WEIGHT, MOST_WEIGHT = 1e-9, 1e9
"""Beyond them a sum of squares is no number any more."""


class Ruling(StrEnum):
    """What became of a report; the values of the `outcome` label."""

    COUNTED = "counted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    UNKNOWN_ID = "unknown_id"
    AMBIGUOUS = "ambiguous"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Report:
    """What was true about the request `request_id` to `model`: a label a row (the index of the
    true class; with a score 1 for positive, 0 for not). It stands for `weight` requests."""

    model: str
    request_id: bytes
    labels: tuple[int, ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one report; `message` is for people, empty when counted."""

    ruling: Ruling
    message: str = ""


def mistake(report: Report, kind: Kind, classes: int) -> str:
    """What is wrong with the report in itself, "" if nothing is. The answers of its model are of
    `kind`, with so many `classes`."""
    if not report.request_id:
        return "request_id is empty; it is the `id` of the response"
    if not report.labels:
        return "labels is empty; there is one for each row of the request"
    if not LEAST_WEIGHT <= report.weight <= MOST_WEIGHT or math.isnan(report.weight):
        return (
            f"weight is {report.weight:g}; it is a number from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}"
        )
    most = classes - 1 if kind is Kind.CLASS else 1
    for label in report.labels:
        if not 0 <= label <= most:
            what = (
                f"the true class has an index from 0 to {most}"
                if kind is Kind.CLASS
                else "a row was positive (1) or not (0)"
            )
            return f"label {label} cannot be: {what}"
    return ""
