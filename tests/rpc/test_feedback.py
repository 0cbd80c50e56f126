"""Feedback over gRPC: the whole way from a client's report to a durable count."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest

from feedback_place import Place
from gearshift.core.reports import Report, Result, Ruling
from gearshift.errors import FeedbackUnavailable
from gearshift.rpc.feedback import MOST_LABELS, MOST_REPORTS, OUTCOMES, FeedbackMethods
from gearshift.rpc.methods import Methods
from gearshift.rpc.server import RpcServer
from gearshift.v1 import gearshift_pb2 as pb
from gearshift.v1 import gearshift_pb2_grpc


class Servicer(FeedbackMethods, gearshift_pb2_grpc.GearshiftServicer):
    def __init__(self, feedback) -> None:
        self._feedback = feedback


class Served:
    """A server with these methods alone, in a thread of its own."""

    def __init__(self, feedback) -> None:
        ready = threading.Event()

        async def live() -> None:
            methods = Methods()
            gearshift_pb2_grpc.add_GearshiftServicer_to_server(Servicer(feedback), methods)
            server = RpcServer(methods, None, [], lambda catalog: None)
            await server.listen("127.0.0.1", 0)
            self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
            self.port = server.port
            ready.set()
            await self._end.wait()
            await server.stop(0.5)

        self._thread = threading.Thread(target=lambda: asyncio.run(live()), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def stub_for():
    served = []

    def make(feedback):
        server = Served(feedback)
        channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
        served.append((server, channel))
        return gearshift_pb2_grpc.GearshiftStub(channel)

    yield make
    for server, channel in served:
        channel.close()
        server.stop()


@pytest.fixture
def place(tmp_path):
    made = Place(f"sqlite:///{tmp_path / 'f.sqlite3'}", rows=100_000)
    yield made
    made.close()


def reports(model: str, labels: dict[str, int], **more) -> list[pb.Report]:
    return [
        pb.Report(model=model, request_id=request_id, labels=[label], **more)
        for request_id, label in labels.items()
    ]


def test_reports_are_answered_in_their_order_once_they_are_durable(place, stub_for):
    stub = stub_for(place.reporting)
    place.answer("kinds", [0, 1], ["a", "ü"])
    told = [*reports("kinds", {"a": 0, "?": 1, "ü": 3}), *reports("nope", {"a": 0})]
    answer = stub.Feedback(pb.FeedbackRequest(reports=told), timeout=20)
    assert [(each.request_id, each.outcome) for each in answer.results] == [
        ("a", pb.Result.OUTCOME_COUNTED),
        ("?", pb.Result.OUTCOME_UNKNOWN_ID),
        ("ü", pb.Result.OUTCOME_COUNTED),
        ("a", pb.Result.OUTCOME_INVALID),
    ]
    assert [bool(each.message) for each in answer.results] == [False, True, False, True]
    # Another process reads what this one was told is durable.
    other = Place(place.store.where)
    assert [r.ruling for r in other.report("kinds", [0, 3], ["a", "ü"])] == ["duplicate"] * 2
    other.close()


def test_a_weight_that_is_left_out_is_one_and_zero_is_none(place, stub_for):
    stub = stub_for(place.reporting)
    place.answer("kinds", [0, 1, 2], ["a", "b", "c"])
    told = [
        *reports("kinds", {"a": 0}),
        *reports("kinds", {"b": 0}, weight=600.0),
        *reports("kinds", {"c": 0}, weight=0.0),
    ]
    answer = stub.Feedback(pb.FeedbackRequest(reports=told), timeout=20)
    counted, invalid = pb.Result.OUTCOME_COUNTED, pb.Result.OUTCOME_INVALID
    assert [each.outcome for each in answer.results] == [counted, counted, invalid]
    model = place.catalog.model("kinds")
    artifact = place.store.artifact(model, model.by_name("small"))
    assert [row.weight for row in place.store.window(artifact)] == [1.0, 600.0]


def test_message_by_message(place, stub_for):
    stub = stub_for(place.reporting)
    place.answer("kinds", [0, 1, 2], ["a", "b", "c"])
    messages = [
        pb.StreamFeedbackRequest(reports=reports("kinds", {"a": 0, "b": 1})),
        pb.StreamFeedbackRequest(),
        pb.StreamFeedbackRequest(reports=reports("kinds", {"b": 1, "c": 1})),
    ]
    answers = list(stub.StreamFeedback(iter(messages), timeout=20))
    counted, duplicate = pb.Result.OUTCOME_COUNTED, pb.Result.OUTCOME_DUPLICATE
    assert [[each.outcome for each in answer.results] for answer in answers] == [
        [counted, counted],
        [],
        [duplicate, counted],
    ]


def test_an_empty_message_is_fine(place, stub_for):
    assert stub_for(place.reporting).Feedback(pb.FeedbackRequest(), timeout=20).results == []


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            pb.FeedbackRequest(reports=[pb.Report(model="kinds")] * (MOST_REPORTS + 1)),
            "10001 reports in one message; 10000 are the most",
        ),
        (
            pb.FeedbackRequest(reports=[pb.Report(labels=[0] * (MOST_LABELS + 1))]),
            "100001 labels in one message; 100000 are the most",
        ),
    ],
)
def test_a_message_is_bounded(place, stub_for, request_, message):
    with pytest.raises(grpc.RpcError) as caught:
        stub_for(place.reporting).Feedback(request_, timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == message


class Failing:
    async def report(self, reports: list[Report]) -> list[Result]:
        raise FeedbackUnavailable("the feedback database fails")


def test_what_cannot_be_kept_is_not_acknowledged(stub_for):
    stub = stub_for(Failing())
    told = reports("kinds", {"a": 0})
    with pytest.raises(grpc.RpcError) as caught:
        stub.Feedback(pb.FeedbackRequest(reports=told), timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.StreamFeedback(iter([pb.StreamFeedbackRequest(reports=told)]), timeout=20))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_where_feedback_is_off_it_is_said(stub_for):
    with pytest.raises(grpc.RpcError) as caught:
        stub_for(None).Feedback(pb.FeedbackRequest(), timeout=20)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "feedback is off" in caught.value.details()


def test_every_ruling_has_its_word():
    assert set(OUTCOMES) == set(Ruling)
    assert set(OUTCOMES.values()) | {0} == set(pb.Result.Outcome.values())
