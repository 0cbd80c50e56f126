"""The parts of the replay with labels that need no server."""

from __future__ import annotations

import asyncio
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from loadtests.replaying import Answer, Post

from gearshift.compress import evaluate
from gearshift.demo.traffic import Samples
from gearshift.executors.onnx import OnnxExecutor
from gearshift.repository import load
from gearshift.v1 import gearshift_pb2 as pb
from loadtests import replay, replaying
from serving import ROOT
from virtual import run_virtual

FRAUD = Samples(ROOT / "model_repo", "fraud")


class Counting:
    """Rules as the server does, from the ids that it knows."""

    def __init__(self, known: set[str]) -> None:
        self.known = known
        self.seen: list[str] = []
        self.reports: list[pb.Report] = []

    async def Feedback(self, request, timeout):  # noqa: N802, ASYNC109 - as the stub's
        self.reports += request.reports
        results = []
        for report in request.reports:
            outcome = pb.Result.OUTCOME_COUNTED
            if report.request_id not in self.known:
                outcome = pb.Result.OUTCOME_UNKNOWN_ID
            elif report.request_id in self.seen:
                outcome = pb.Result.OUTCOME_DUPLICATE
            self.seen.append(report.request_id)
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
        assert post.counted == {"a": 500, "b": 500, "": 0}
        assert set(post.outcomes) == {"counted", "duplicate", "unknown_id"}
        assert 5 < post.outcomes["duplicate"] < 50
        assert 1 < post.outcomes["unknown_id"] < 30
        firsts = list(dict.fromkeys(r.request_id for r in stub.reports if r.request_id in ids))
        assert sorted(firsts) == sorted(ids)
        assert firsts != ids
        for report in stub.reports:
            if report.request_id in ids:
                row = int(report.request_id[2:])
                assert list(report.labels) == [FRAUD.labels[row]]
                assert report.weight == FRAUD.weights[row]

    run_virtual(live())


@pytest.mark.parametrize("variant", ["committee", "trees-small", "mlp"])
def test_a_disturbed_variant_is_as_good_as_a_guess_and_still_loads(tmp_path, variant):
    shutil.copytree(ROOT / "model_repo" / "fraud", tmp_path / "fraud")
    before = replay.offline(tmp_path, FRAUD)
    artifact = tmp_path / "fraud" / variant / "model.onnx"
    replay.disturb(artifact)
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
    figures = {"bad": 0.0}

    def told(name: str) -> dict[str, float]:
        assert name == "gearshift_variant_fallen"
        figures["bad"] = float(len(caller.asked) >= 100)
        return figures

    monkeypatch.setattr(replay, "PACE", 1e9)
    monkeypatch.setattr(replay, "LOOK_EVERY", 25)

    async def live() -> None:
        answers, noticed = await replay.until_another_answers(
            caller, SimpleNamespace(figures=told), [5, 6, 7], "bad"
        )
        assert noticed == 90
        assert len(answers) == 121
        assert caller.asked[:4] == [5, 6, 7, 5]

    asyncio.run(live())


def test_a_page_says_what_was_found():
    found = replay.Found(
        {"a": 0.8}, {"a": 0.81}, {"a": 0.7}, {"a": 0.9}, {"a": 2000.0}, {"counted": 2000}
    )
    rng = np.random.default_rng(0)
    rows = [Answer(row, "a", float(rng.random())) for row in range(2_000)]
    text = "\n".join(replay.page(found, FRAUD, "a", 123, {"before": rows}))
    assert "| a | 0.8000 | 0.8100 | 0.700 to 0.900 | 2000 |" in text
    assert "**123 labels**" in text
    assert "| before | a 2000 |" in text
