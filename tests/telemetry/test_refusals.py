"""The latest refusals: bounded, alike ones together, those of several processes in order."""

from __future__ import annotations

from collections.abc import Callable

from gearshift.errors import Outcome
from gearshift.ports import Settled
from gearshift.telemetry.refusals import KEPT, MESSAGE, Refusals, merged

Ended = Callable[..., Settled]


def test_the_newest_is_first_with_what_its_caller_was_told(ended: Ended) -> None:
    refusals = Refusals()
    refusals.add(ended(Outcome.SHED, status="RESOURCE_EXHAUSTED", message="full"), 10.0)
    refusals.add(ended(Outcome.INFEASIBLE, status="FAILED_PRECONDITION", message="no"), 11.0)
    newest, oldest = refusals.latest()
    assert newest == {
        "time": 11.0,
        "model": "a",
        "service_class": "fast",
        "variant": "",
        "outcome": "infeasible",
        "status": "FAILED_PRECONDITION",
        "message": "no",
        "count": 1,
    }
    assert oldest["message"] == "full"


def test_a_flood_takes_one_place_a_second(ended: Ended) -> None:
    refusals = Refusals()
    refusals.add(ended(Outcome.INFEASIBLE, message="rare"), 9.0)
    for index in range(10_000):
        refusals.add(ended(Outcome.SHED, message=f"full {index}"), 10 + index / 1_000)
    latest = refusals.latest()
    assert len(latest) == 11
    assert latest[-1]["message"] == "rare"
    assert sum(refusal["count"] for refusal in latest) == 10_001
    assert latest[0]["message"] == "full 9999"


def test_no_more_are_kept_than_said_and_no_longer_messages(ended: Ended) -> None:
    refusals = Refusals()
    for second in range(KEPT * 3):
        refusals.add(ended(Outcome.INVALID, message="x" * 100_000), float(second))
    latest = refusals.latest()
    assert [refusal["time"] for refusal in latest] == [
        float(second) for second in reversed(range(KEPT * 2, KEPT * 3))
    ]
    assert {len(refusal["message"]) for refusal in latest} == {MESSAGE}


def test_who_left_was_not_refused(ended: Ended) -> None:
    refusals = Refusals()
    refusals.add(ended(Outcome.CANCELLED), 1.0)
    assert refusals.latest() == []


def test_those_of_several_processes_are_put_in_order() -> None:
    lists = [[{"time": float(second)} for second in range(process, 90, 3)] for process in range(3)]
    together = merged(lists)
    assert [refusal["time"] for refusal in together] == [float(s) for s in range(89, 89 - KEPT, -1)]
