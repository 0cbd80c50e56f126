"""Explain: what would be chosen for a request, and why not the others. Nothing runs, and it
counts as no traffic."""

from __future__ import annotations

import math
from typing import Any

from gearshift.core.explain import Explanation, Weighed
from gearshift.core.request import Parameter, Request
from gearshift.engine import Engine
from gearshift.rpc.permitted import model_for
from gearshift.rpc.status import abort, code_and_message
from gearshift.v1 import gearshift_pb2 as pb


class ExplainMethods:
    """The part of `gearshift.v1.Gearshift` that explains."""

    _engine: Engine

    async def Explain(  # noqa: N802
        self, request: pb.ExplainRequest, context: Any
    ) -> pb.ExplainResponse:
        """A request that could never be sent ends with the status that it would get; one that
        would be refused for load, floor or budget is explained."""
        try:
            model_for(context.rights, self._engine.catalog, request.model)
            explanation = self._engine.explain(_asked(request))
        except Exception as error:
            await abort(context, error)
            raise
        return response_of(explanation)


def _asked(request: pb.ExplainRequest) -> Request:
    parameters: dict[str, Parameter] = {}
    if request.HasField("latency_budget_ms"):
        parameters["latency_budget_ms"] = request.latency_budget_ms
    if request.HasField("min_accuracy"):
        parameters["min_accuracy"] = request.min_accuracy
    if request.service_class:
        parameters["service_class"] = request.service_class
    if request.variant:
        parameters["variant"] = request.variant
    return Request(model=request.model, rows=request.rows or 1, parameters=parameters)


def response_of(explanation: Explanation) -> pb.ExplainResponse:
    """The explanation on the wire, in milliseconds."""
    ticket = explanation.ticket
    response = pb.ExplainResponse(
        model=ticket.model,
        service_class=ticket.service_class,
        floor=ticket.floor,
        chosen=explanation.chosen,
        reason="" if explanation.reason is None else explanation.reason.value,
        candidates=[_candidate(gear) for gear in explanation.gears],
    )
    if ticket.budget < math.inf:
        # To the nanosecond: what is left of the sums that deadlines are made of is no budget.
        response.budget_ms = round(ticket.budget * 1e3, 6)
    if explanation.refused is not None:
        code, message = code_and_message(explanation.refused)
        response.refused_status, response.refused_message = code.name, message
    return response


def _candidate(gear: Weighed) -> pb.Candidate:
    return pb.Candidate(
        name=gear.name,
        version=gear.version,
        accuracy=gear.accuracy,
        accuracy_source=gear.source,
        wait_ms=gear.wait * 1e3,
        p50_ms=gear.p50 * 1e3,
        p99_ms=gear.p99 * 1e3,
        verdict=f"VERDICT_{gear.verdict.name}",
        why=gear.why,
    )
