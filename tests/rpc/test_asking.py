"""Explain over HTTP: the query, the answer, every way in which there is none."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Iterator
from typing import Any

import grpc
import pytest

from fake_gearshift import FakeGearshift, fake_gearshift
from gearshift.rpc import Explainer, asking
from gearshift.v1 import gearshift_pb2 as pb


@pytest.fixture
def fake() -> Iterator[FakeGearshift]:
    with fake_gearshift() as made:
        yield made


@pytest.fixture
def explain(fake: FakeGearshift) -> Explainer:
    made = Explainer()
    made.listening(fake.port, lambda: dial(fake.port))
    return made


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 5)


def told(asking: Awaitable[tuple[int, bytes]]) -> tuple[int, Any]:
    async def wait() -> tuple[int, bytes]:
        return await asking

    status, body = asyncio.run(wait())
    return status, json.loads(body)


def test_the_answer_is_that_of_the_rpc(explain: Explainer, fake: FakeGearshift) -> None:
    fake.answer = pb.ExplainResponse(
        model="fraud",
        budget_ms=10.0,
        chosen="mlp",
        candidates=[pb.Candidate(name="mlp", version=4, verdict=1, wait_ms=0.0)],
    )
    query = {"model": " fraud ", "budget_ms": "10", "min_accuracy": "", "rows": "8"}
    status, answer = told(explain(query))
    assert status == 200
    assert (answer["chosen"], answer["budget_ms"], answer["floor"]) == ("mlp", 10.0, 0.0)
    (candidate,) = answer["candidates"]
    assert candidate["verdict"] == "VERDICT_CHOSEN"
    assert candidate["wait_ms"] == 0.0
    (asked,) = fake.asked
    assert (asked.model, asked.latency_budget_ms, asked.rows) == ("fraud", 10.0, 8)
    assert not asked.HasField("min_accuracy")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({}, "which model?"),
        ({"model": "m", "budget": "1"}, "unknown parameter 'budget'; there are model, budget_ms"),
        ({"model": "m", "budget_ms": "soon"}, "budget_ms must be a number, got 'soon'"),
        ({"model": "m", "rows": "1.5"}, "rows must be a whole number"),
        ({"model": "m", "rows": "9" * 30}, "rows is out of range"),
    ],
)
def test_a_query_that_is_not_understood(
    explain: Explainer, fake: FakeGearshift, query: dict[str, str], text: str
) -> None:
    status, answer = told(explain(query))
    assert (status, answer["status"]) == (400, "INVALID_ARGUMENT")
    assert text in answer["error"]
    assert fake.asked == []


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.NOT_FOUND, 404),
        (grpc.StatusCode.INVALID_ARGUMENT, 400),
        (grpc.StatusCode.INTERNAL, 500),
    ],
)
def test_what_the_rpc_refuses(
    explain: Explainer, fake: FakeGearshift, code: grpc.StatusCode, status: int
) -> None:
    fake.error = code, "a sentence"
    answer = {"status": code.name, "error": "a sentence"}
    assert told(explain({"model": "m"})) == (status, answer)


def test_before_the_server_listens_and_after_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    explain = Explainer()
    assert told(explain({"model": "m"}))[0] == 503
    with fake_gearshift() as gone:
        explain.listening(gone.port, lambda: dial(gone.port))
    assert told(explain({"model": "m"}))[0] == 503


def test_nobody_waits_for_ever(
    explain: Explainer, fake: FakeGearshift, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "WITHIN", 0.05)
    fake.slow = 0.5
    status, answer = told(explain({"model": "m"}))
    assert (status, answer["status"]) == (504, "DEADLINE_EXCEEDED")
