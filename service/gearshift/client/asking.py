"""Questions that both clients ask, as messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from gearshift.client.retrying import checked_budget
from gearshift.v1 import gearshift_pb2 as pb


class ExplainOptions(TypedDict, total=False):
    """Of a request that is only thought of, as in `InferOptions`."""

    budget: float | None
    floor: float | None
    service_class: str
    variant: str
    rows: int


def explain_request(model: str, options: ExplainOptions) -> pb.ExplainRequest:
    """ValueError for a budget that is none."""
    asked = pb.ExplainRequest(
        model=model,
        service_class=options.get("service_class", ""),
        variant=options.get("variant", ""),
        rows=options.get("rows", 1),
    )
    budget, floor = options.get("budget"), options.get("floor")
    if budget is not None:
        asked.latency_budget_ms = 1e3 * checked_budget(budget)
    if floor is not None:
        asked.min_accuracy = floor
    return asked


def feedback_request(
    model: str, request_id: str, labels: Sequence[int], weight: float | None
) -> pb.FeedbackRequest:
    """With one report."""
    report = pb.Report(model=model, request_id=request_id, labels=labels)
    if weight is not None:
        report.weight = weight
    return pb.FeedbackRequest(reports=[report])
