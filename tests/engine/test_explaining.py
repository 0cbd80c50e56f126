"""Questions about requests: checked like requests, and only while requests are taken."""

from __future__ import annotations

import asyncio

import pytest

from builders import ONE_VECTOR, make_catalog, make_model, make_profiles
from gearshift.core.request import Request
from gearshift.core.scheduler import Scheduler
from gearshift.engine import Engine, LoopClock
from gearshift.errors import InvalidInput, ModelNotFound, NotReady, RequestError, VariantNotFound
from gearshift.executors.fake import FakeExecutor
from gearshift.ports import Worker
from recording import RecordingTelemetry
from virtual import run_virtual


def asked(*requests: Request, starting: bool = True):
    """What an idle engine says to each: the chosen variant, or the error."""

    async def live():
        catalog = make_catalog(make_model())
        profiles = make_profiles(catalog, {"large": (0.01, 0.0), "small": (0.001, 0.0)})
        telemetry = RecordingTelemetry()
        engine = Engine(
            catalog,
            Scheduler(catalog, profiles, {0: "cpu"}),
            [Worker(0, "cpu")],
            {"fake": FakeExecutor(ONE_VECTOR, lambda variant, rows: 0.0)},
            LoopClock(asyncio.get_running_loop()),
            telemetry,
        )
        if starting:
            engine.start()
        found = []
        for request in requests:
            try:
                found.append(engine.explain(request).chosen)
            except RequestError as error:
                found.append(error)
        await engine.drain(0.0)
        assert telemetry.settleds == []
        return found

    return run_virtual(live())


def test_each_question_stands_alone():
    quick = Request(model="m", rows=1, parameters={"latency_budget_ms": 5.0})
    patient = Request(model="m", rows=8, parameters={})
    assert asked(patient, quick, patient) == ["large", "small", "large"]


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (Request(model="none", rows=1, parameters={}), ModelNotFound),
        (Request(model="m", rows=9, parameters={}), InvalidInput),
        (Request(model="m", rows=0, parameters={}), InvalidInput),
        (Request(model="m", rows=1, parameters={"variant": "none"}), VariantNotFound),
        (Request(model="m", rows=1, parameters={"budget": 1}), InvalidInput),
    ],
)
def test_what_no_request_may_be(request_, kind):
    (error,) = asked(request_)
    assert type(error) is kind


def test_who_takes_no_requests_explains_none():
    (error,) = asked(Request(model="m", rows=1, parameters={}), starting=False)
    assert type(error) is NotReady
