"""A server, held-out rows that are sent to it, and their labels, which come late."""

from __future__ import annotations

import asyncio
import math
import os
import re
import select
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import tritonclient.grpc.aio as triton
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from gearshift.demo.traffic import Samples
from gearshift.v1 import gearshift_pb2 as pb
from gearshift.v1.gearshift_pb2_grpc import GearshiftStub

MODEL = "fraud"
START_WITHIN = 240.0
PATIENCE = 30.0
"""Seconds for one call, and for the last labels to be counted."""
CALLERS = 8
LATE = 2.0
"""Seconds by which labels come late, on average (exponential)."""
TWICE, OTHERWISE, NEVER = 0.02, 0.01, 0.01
"""Shares of labels that are reported again, of those that are contradicted once they are counted,
and of reports of requests that never were."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Which row was asked about, who answered, the score, and the accuracy that came with it."""

    row: int
    variant: str
    score: float
    accuracy: float = math.nan


# --- the server -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Server:
    grpc: str
    http: str
    process: subprocess.Popen[str]

    def values(self, name: str, **labels: str) -> Iterator[Sample]:
        """What /metrics says of one name, where the given labels match."""
        with urllib.request.urlopen(f"{self.http}/metrics", timeout=PATIENCE) as response:
            page = response.read().decode()
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    yield sample

    def figures(self, name: str, **labels: str) -> dict[str, float]:
        """One metric of the model by variant (or outcome), where the given labels match."""
        return {
            sample.labels.get("variant") or sample.labels.get("outcome", ""): sample.value
            for sample in self.values(name, model=MODEL, **labels)
        }


@contextmanager
def serving(
    repository: Path, state: Path, log: Path, *broken: str, **settings: str
) -> Iterator[Server]:
    """A server until the block ends, whose log is appended to a file; `broken` as the arguments
    of loadtests.breaking, which then is the server; `settings` by name."""
    plain = ("gearshift", "serve", "--grpc-port", "0", "--http-port", "0")
    with log.open("a") as written:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m"),
                *(("loadtests.breaking", *broken) if broken else plain),
                *("--repository", str(repository), "--state-dir", str(state)),
            ],
            stdout=subprocess.PIPE,
            stderr=written,
            text=True,
            env={
                **os.environ,
                "NO_COLOR": "1",
                **{f"GEARSHIFT_{name.upper()}": value for name, value in settings.items()},
            },
        )
    try:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], START_WITHIN)
        line = process.stdout.readline() if readable else ""
        found = re.fullmatch(r"gearshift is ready: gRPC on (\S+), metrics on (\S+)/metrics\n", line)
        if found is None:
            raise SystemExit(
                f"the server said {line!r} instead of its addresses: {log.read_text()}"
            )
        yield Server(found[1], found[2], process)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


# --- labels -----------------------------------------------------------------------------


@dataclass(slots=True)
class Due:
    """A report that is to be sent: when, about whose answer, what may become of it, and in which
    round of the post the answer was given."""

    when: float
    variant: str
    report: pb.Report
    expected: frozenset[str]
    round: int


FIRST, AGAIN = frozenset(("counted", "duplicate")), frozenset(("conflict",))
UNKNOWN = frozenset(("unknown_id",))


class Post:
    """Brings each label late, some again, some contradicted. `counted` is how many labels of each
    variant the server has counted since the last `begin`, `outcomes` what became of all reports.
    Ends the run if a report becomes what it must not."""

    def __init__(self, stub: GearshiftStub, samples: Samples, seed: int) -> None:
        self.counted: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self._stub = stub
        self._samples = samples
        self._random = np.random.default_rng(seed)
        self._due: list[Due] = []
        self._known: set[str] = set()
        self._round = 0

    def begin(self) -> None:
        """Count only labels of answers that are given from now on."""
        self._round += 1
        self.counted.clear()

    def answered(self, request_id: str, answer: Answer) -> None:
        report = pb.Report(
            model=MODEL,
            request_id=request_id,
            labels=[int(self._samples.labels[answer.row])],
            weight=float(self._samples.weights[answer.row]),
        )
        self._send_later(answer.variant, report, FIRST)
        if self._random.random() < TWICE:
            self._send_later(answer.variant, report, FIRST)
        if self._random.random() < NEVER:
            unknown = pb.Report(model=MODEL, request_id=f"never-{request_id}", labels=[0])
            self._send_later("", unknown, UNKNOWN)

    def _send_later(self, variant: str, report: pb.Report, expected: frozenset[str]) -> None:
        when = asyncio.get_running_loop().time() + self._random.exponential(LATE)
        self._due.append(Due(when, variant, report, expected, self._round))

    async def deliver(self, everything: bool = False) -> None:
        """Report what is due, in no order."""
        now = asyncio.get_running_loop().time()
        due = [each for each in self._due if everything or each.when <= now]
        self._due = [each for each in self._due if not everything and each.when > now]
        self._random.shuffle(due)  # type: ignore[arg-type]
        for begin in range(0, len(due), 100):
            part = due[begin : begin + 100]
            request = pb.FeedbackRequest(reports=[each.report for each in part])
            response = await self._stub.Feedback(request, timeout=PATIENCE)
            for each, result in zip(part, response.results, strict=True):
                name = pb.Result.Outcome.Name(result.outcome).removeprefix("OUTCOME_").lower()
                self._became(each, name)
        if everything and self._due:  # contradictions of what has just been counted
            await self.deliver(everything)

    def _became(self, due: Due, outcome: str) -> None:
        self.outcomes[outcome] += 1
        request_id = due.report.request_id
        twice = outcome == "counted" and request_id in self._known
        if outcome not in due.expected or twice:
            raise SystemExit(f"a report of {request_id} became {outcome}, not {due.expected}")
        if outcome == "counted":
            self._known.add(request_id)
            self.counted[due.variant] += due.round == self._round
            if self._random.random() < OTHERWISE:
                other = pb.Report()
                other.CopyFrom(due.report)
                other.labels[0] = 1 - other.labels[0]
                self._send_later(due.variant, other, AGAIN)


# --- requests ---------------------------------------------------------------------------


class Caller:
    """Asks about held-out rows, one a request, and has their labels sent after."""

    def __init__(
        self,
        client: triton.InferenceServerClient,
        tensor: str,
        samples: Samples,
        post: Post,
        name: str,
    ) -> None:
        self.post = post
        self._client = client
        self._tensor = tensor
        self._samples = samples
        self._name = name
        self._asked = 0

    async def ask(self, row: int, variant: str = "") -> Answer:
        self._asked += 1
        request_id = f"{self._name}-{self._asked}"
        rows = self._samples.inputs[row : row + 1]
        tensor = triton.InferInput(self._tensor, rows.shape, "FP32")
        tensor.set_data_from_numpy(rows)
        pinned = {"variant": variant} if variant else {}
        response = await self._client.infer(
            MODEL,
            [tensor],
            request_id=request_id,
            parameters={"service_class": "batch", **pinned},
            client_timeout=PATIENCE,
        )
        told = response.get_response()
        score = response.as_numpy(told.outputs[0].name).ravel()[0]
        parameters = told.parameters
        answer = Answer(
            row,
            parameters["variant"].string_param,
            float(score),
            parameters["accuracy"].double_param,
        )
        self.post.answered(told.id, answer)
        return answer

    async def ask_all(self, order: Sequence[int], variant: str = "") -> list[Answer]:
        """CALLERS at a time; labels are delivered meanwhile as they are due."""
        answers: list[Answer] = []
        for begin in range(0, len(order), CALLERS):
            part = order[begin : begin + CALLERS]
            answers += await asyncio.gather(*(self.ask(row, variant) for row in part))
            await self.post.deliver()
        return answers


@asynccontextmanager
async def calling(server: Server, samples: Samples, name: str, seed: int) -> AsyncIterator[Caller]:
    """`name` keeps the ids of its requests apart from those of others."""
    async with (
        grpc.aio.insecure_channel(server.grpc) as channel,
        triton.InferenceServerClient(server.grpc) as client,
    ):
        metadata = await client.get_model_metadata(MODEL)
        post = Post(GearshiftStub(channel), samples, seed)
        yield Caller(client, metadata.inputs[0].name, samples, post, name)
