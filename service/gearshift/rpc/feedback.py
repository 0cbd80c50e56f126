"""The methods of `gearshift.v1.Gearshift` that take what was true in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from gearshift.core.reports import Report, Result, Ruling
from gearshift.core.rights import Rights
from gearshift.errors import FeedbackOff, GearshiftError, InvalidInput
from gearshift.ports import Feedback
from gearshift.rpc.status import abort
from gearshift.v1 import gearshift_pb2 as pb

MOST_REPORTS = 10_000
MOST_LABELS = 100_000
"""In one message."""

OUTCOMES = {
    Ruling.COUNTED: pb.Result.OUTCOME_COUNTED,
    Ruling.DUPLICATE: pb.Result.OUTCOME_DUPLICATE,
    Ruling.CONFLICT: pb.Result.OUTCOME_CONFLICT,
    Ruling.UNKNOWN_ID: pb.Result.OUTCOME_UNKNOWN_ID,
    Ruling.AMBIGUOUS: pb.Result.OUTCOME_AMBIGUOUS,
    Ruling.INVALID: pb.Result.OUTCOME_INVALID,
}


class FeedbackMethods:
    """The part of `gearshift.v1.Gearshift` that takes feedback; None where none is taken."""

    _feedback: Feedback | None

    async def Feedback(  # noqa: N802
        self, request: pb.FeedbackRequest, context: Any
    ) -> pb.FeedbackResponse:
        """Answered once all that was counted is durable."""
        results = await self._report(request.reports, context)
        return pb.FeedbackResponse(results=results)

    async def StreamFeedback(  # noqa: N802
        self, requests: AsyncIterator[pb.StreamFeedbackRequest], context: Any
    ) -> AsyncIterator[pb.StreamFeedbackResponse]:
        """One message after the other: who gets an answer knows that all before it is durable."""
        async for request in requests:
            results = await self._report(request.reports, context)
            yield pb.StreamFeedbackResponse(results=results)

    async def _report(self, told: Sequence[pb.Report], context: Any) -> list[pb.Result]:
        try:
            _permitted(told, context.rights)
            if self._feedback is None:
                raise FeedbackOff("feedback is off here; the setting `feedback` turns it on")
            _check(told)
            results = await self._feedback.report([_report(each) for each in told])
        except GearshiftError as error:
            await abort(context, error)
            raise
        return [
            _result(each.request_id, result) for each, result in zip(told, results, strict=True)
        ]


def _check(told: Sequence[pb.Report]) -> None:
    if len(told) > MOST_REPORTS:
        raise InvalidInput(f"{len(told)} reports in one message; {MOST_REPORTS} are the most")
    labels = sum(len(each.labels) for each in told)
    if labels > MOST_LABELS:
        raise InvalidInput(f"{labels} labels in one message; {MOST_LABELS} are the most")


def _permitted(told: Sequence[pb.Report], rights: Rights) -> None:
    # Ids alone may be those of any model.
    for model in {each.model for each in told}:
        rights.need_named(model)


def _report(told: pb.Report) -> Report:
    weight = told.weight if told.HasField("weight") else 1.0
    return Report(told.model, told.request_id.encode(), tuple(told.labels), weight)


def _result(request_id: str, result: Result) -> pb.Result:
    return pb.Result(request_id=request_id, outcome=OUTCOMES[result.ruling], message=result.message)
