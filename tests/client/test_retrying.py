"""When a call is made again: only what may be, only while there is time, never by all at once."""

from __future__ import annotations

import math
import random

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from gearshift.client import errors
from gearshift.client.errors import Overloaded, Unavailable
from gearshift.client.retrying import SAVED_UP, Attempts, Retries, checked_budget

BUSY = grpc.StatusCode.RESOURCE_EXHAUSTED


class Failed:
    def __init__(self, status: grpc.StatusCode, *trailing: tuple[str, str]) -> None:
        self._status, self._trailing = status, trailing

    def code(self) -> grpc.StatusCode:
        return self._status

    def details(self) -> str:
        return "a sentence"

    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._trailing


def busy(retry_after: float | None = None) -> Overloaded:
    return Overloaded("busy", BUSY, retry_after)


@pytest.mark.parametrize("status", [each for each in grpc.StatusCode if each.value[0]])
def test_each_status_has_its_error_and_few_are_tried_again(status):
    error = errors.error_of(Failed(status))
    assert (str(error), error.status) == ("a sentence", status)
    again = Retries().wait(error, 1, math.inf) is not None
    assert again == (status in (BUSY, grpc.StatusCode.UNAVAILABLE))


def test_the_server_says_when():
    error = errors.error_of(Failed(BUSY, ("other", "1"), ("grpc-retry-pushback-ms", "250")))
    assert isinstance(error, Overloaded)
    assert error.retry_after == 0.25
    assert Retries().wait(error, 1, 1.0) == 0.25
    assert Retries().wait(error, 1, 0.25) is None
    assert Retries().wait(error, 3, 1.0) is None
    odd = errors.error_of(Failed(grpc.StatusCode.UNAVAILABLE, ("grpc-retry-pushback-ms", "-1")))
    assert isinstance(odd, Unavailable)
    assert odd.retry_after is None


@given(st.integers(1, 9), st.integers(0, 2**32))
def test_waits_grow_and_differ(attempt, seed):
    retries = Retries(attempts=10, chance=random.Random(seed))
    wait = retries.wait(busy(), attempt, math.inf)
    longest = min(1.0, 0.02 * 2 ** (attempt - 1))
    assert longest / 2 <= wait <= longest


def test_no_more_than_a_tenth_of_the_calls_are_retries():
    retries = Retries()
    made = 0
    for _ in range(1_000):
        retries.began()
        made += retries.wait(busy(0.0), 1, math.inf) is not None
    assert made == pytest.approx(100 + SAVED_UP, abs=1)


def test_a_budget_is_for_all_tries_together():
    request = pb.ModelInferRequest()
    attempts = Attempts(Retries(), 1.0, 10.0)
    assert attempts.begin(request, 10.0) == 1.0
    assert request.parameters["latency_budget_ms"].double_param == 1e3
    assert attempts.failed(busy(0.3), 10.2) == 0.3
    assert attempts.begin(request, 10.5) == 0.5
    assert request.parameters["latency_budget_ms"].double_param == 500.0
    with pytest.raises(Overloaded, match="busy"):
        attempts.failed(busy(0.5), 10.5)
    free = Attempts(Retries(), None, 0.0)
    other = pb.ModelInferRequest()
    assert free.begin(other, 0.0) is None
    assert not other.parameters


@pytest.mark.parametrize("budget", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_budget(budget):
    with pytest.raises(ValueError, match="positive number of seconds"):
        checked_budget(budget)
    with pytest.raises(ValueError, match="1 or more"):
        Retries(attempts=0)
