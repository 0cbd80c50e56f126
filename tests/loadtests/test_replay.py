"""The parts of the replay with labels that need no server."""

from __future__ import annotations

import asyncio
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from loadtests.breaking import disturb
from loadtests.replay_orders import Sooner
from loadtests.replay_records import Found, Look, Story, Trial
from loadtests.replaying import Answer, Post

from gearshift.compress import evaluate
from gearshift.demo.traffic import Samples
from gearshift.executors.onnx import OnnxExecutor
from gearshift.repository import load
from gearshift.v1 import gearshift_pb2 as pb
from loadtests import replay, replay_page, replaying
from serving import ROOT
from virtual import run_virtual

FRAUD = Samples(ROOT / "model_repo", "fraud")


class Counting:
    """Rules as the server does, from the ids that it knows."""

    def __init__(self, known: set[str]) -> None:
        self.known = known
        self.seen: dict[str, list[int]] = {}
        self.reports: list[pb.Report] = []

    async def Feedback(self, request, timeout):  # noqa: N802, ASYNC109 - as the stub's
        self.reports += request.reports
        results = []
        for report in request.reports:
            outcome = pb.Result.OUTCOME_COUNTED
            if report.request_id not in self.known:
                outcome = pb.Result.OUTCOME_UNKNOWN_ID
            elif report.request_id in self.seen:
                same = self.seen[report.request_id] == list(report.labels)
                outcome = pb.Result.OUTCOME_DUPLICATE if same else pb.Result.OUTCOME_CONFLICT
            self.seen.setdefault(report.request_id, list(report.labels))
            results.append(pb.Result(request_id=report.request_id, outcome=outcome))
        return pb.FeedbackResponse(results=results)


def test_every_label_comes_late_in_another_order_and_some_twice():
    async def live() -> None:
        ids = [f"r-{n}" for n in range(1_000)]
        stub = Counting(set(ids))
        post = Post(stub, FRAUD, seed=0)
        for row, request_id in enumerate(ids):
            post.answered(request_id, Answer(row, "a" if row % 2 else "b", 0.5))
        await post.deliver()
        assert not stub.reports
        await asyncio.sleep(replaying.LATE)
        await post.deliver()
        assert 500 < sum(post.counted.values()) < 750
        await post.deliver(everything=True)
        assert post.counted == {"a": 500, "b": 500}
        assert set(post.outcomes) == {"counted", "duplicate", "conflict", "unknown_id"}
        assert 5 < post.outcomes["duplicate"] < 50
        assert 1 < post.outcomes["unknown_id"] < 30
        assert 1 < post.outcomes["conflict"] < 30
        firsts = list(dict.fromkeys(r.request_id for r in stub.reports if r.request_id in ids))
        assert sorted(firsts) == sorted(ids)
        assert firsts != ids
        for request_id, labels in stub.seen.items():
            if request_id in ids:
                assert labels == [FRAUD.labels[int(request_id[2:])]]
        for report in stub.reports:
            if report.request_id in ids:
                row = int(report.request_id[2:])
                assert report.weight == FRAUD.weights[row]

    run_virtual(live())


def test_a_report_that_becomes_what_it_must_not_ends_the_run():
    async def live() -> None:
        post = Post(Counting(set()), FRAUD, seed=0)
        post.answered("r-0", Answer(0, "a", 0.5))
        with pytest.raises(SystemExit, match="r-0 became unknown_id"):
            await post.deliver(everything=True)

    run_virtual(live())


def test_labels_of_answers_before_a_new_round_are_not_counted_in_it():
    async def live() -> None:
        post = Post(Counting({"r-0", "r-1"}), FRAUD, seed=0)
        post.answered("r-0", Answer(0, "a", 0.5))
        post.begin()
        post.answered("r-1", Answer(1, "a", 0.5))
        await post.deliver(everything=True)
        assert post.counted["a"] == 1

    run_virtual(live())


@pytest.mark.parametrize("variant", ["committee", "trees-small", "mlp"])
def test_a_disturbed_variant_is_as_good_as_a_guess_and_still_loads(tmp_path, variant):
    shutil.copytree(ROOT / "model_repo" / "fraud", tmp_path / "fraud")
    before = replay.offline(tmp_path, FRAUD)
    artifact = tmp_path / "fraud" / variant / "model.onnx"
    disturb(artifact)
    after = replay.offline(tmp_path, FRAUD)
    assert after.pop(variant) < 0.1 < before.pop(variant)
    assert after == before
    assert evaluate.session(artifact).get_inputs()[0].shape[1:] == [30]
    executor = OnnxExecutor([])
    try:
        catalog = load(tmp_path, {"onnx": executor.inspect})
    finally:
        executor.close()
    assert len(catalog.model("fraud").variants) == len(before) + 1


def test_what_is_noticed_is_told_in_labels_and_ends_when_another_answers(monkeypatch):
    class Asked:
        def __init__(self) -> None:
            self.post = SimpleNamespace(counted={"bad": 0}, deliver=self.deliver)
            self.asked: list[int] = []

        async def deliver(self) -> None:
            self.post.counted["bad"] = max(0, len(self.asked) - 10)

        async def ask(self, row: int) -> Answer:
            self.asked.append(row)
            return Answer(row, "good" if len(self.asked) > 120 else "bad", 0.5)

    caller = Asked()

    def told(name: str) -> dict[str, float]:
        return {"bad": float("fallen" in name and len(caller.asked) >= 95)}

    monkeypatch.setattr(replay, "PACE", 1e9)
    story = Story("t", "bad")

    async def live() -> None:
        server = SimpleNamespace(figures=told)
        await replay.until_another_answers(caller, server, story, [5, 6, 7])

    asyncio.run(live())
    assert (story.noticed, story.labels) == (100, 90)
    assert len(story.answers) == 130
    assert caller.asked[:4] == [5, 6, 7, 5]


def test_a_page_and_a_picture_say_what_was_found(tmp_path):
    found = Found({"a": 0.8}, {"a": 0.81}, {"a": 0.7}, {"a": 0.9}, {"a": 2000.0}, {"counted": 2000})
    with pytest.raises(SystemExit, match="a: live"):
        found.check()
    rng = np.random.default_rng(0)
    rows = [Answer(row, "b" if row > 700 else "a", float(rng.random())) for row in range(2_000)]
    looks = [Look(at, {"a": 0.8 if at < 700 else 0.1}, at >= 700) for at in range(10, 2_001, 10)]
    story = Story("restarted", "a", rows, looks, 500, 690, 123, 701, rows, {"gearshift top": "T"})
    trial = Trial("sound", "a", "serving", 40_000, 2_000, 1_990, 0.8, 1.0)
    orders = [
        Sooner(1.0, 0.001, [100, 140, 120], [100, None, 200]),
        Sooner(0.3, 0.7, [None], [None]),
    ]
    lines = replay_page.page(
        found, [story], [trial], orders, FRAUD, {"log": "x file=/a/profiles/b/c  y\ndraining"}
    )
    text = "\n".join(lines)
    assert "| a | 0.8000 | 0.8100 | 0.700 to 0.900 | 2000 |" in text
    assert "**123 labels**" in text
    assert "190 requests after it broke" in text
    assert "| before | a 500 |" in text
    assert "| 100% | 0.001 | median 120, at most 140 | median 150, at most 200; in 1 of 3" in text
    assert "| sound | serving | 40,000 | 2,000 | 1,990 | 0.800 | 100% |" in text
    assert "log: x file=.../c y" in text
    assert "draining\n" not in text
    replay_page.draw([story], FRAUD, tmp_path / "replay.png")
    assert (tmp_path / "replay.png").stat().st_size > 10_000
