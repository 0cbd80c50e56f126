"""A server, held-out rows that are sent to it, and their labels, which come late."""

from __future__ import annotations

import asyncio
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
TWICE, NEVER = 0.02, 0.01
"""Shares of labels that are reported again, and of reports of requests that never were."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Which row was asked about, who answered, and the score."""

    row: int
    variant: str
    score: float


# --- the server -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Server:
    grpc: str
    http: str

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
def serving(repository: Path, state: Path) -> Iterator[Server]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gearshift", "serve", "--grpc-port", "0", "--http-port", "0"),
            *("--repository", str(repository), "--state-dir", str(state)),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], START_WITHIN)
        line = process.stdout.readline() if readable else ""
        found = re.fullmatch(r"gearshift is ready: gRPC on (\S+), metrics on (\S+)/metrics\n", line)
        if found is None:
            raise SystemExit(f"the server said {line!r} instead of its addresses")
        yield Server(found[1], found[2])
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


# --- labels -----------------------------------------------------------------------------


class Post:
    """Brings each label late, and some again. `counted` is how many labels of each variant the
    server has counted, `outcomes` what became of all reports."""

    def __init__(self, stub: GearshiftStub, samples: Samples, seed: int) -> None:
        self.counted: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self._stub = stub
        self._samples = samples
        self._random = np.random.default_rng(seed)
        self._due: list[tuple[float, str, pb.Report]] = []

    def answered(self, request_id: str, answer: Answer) -> None:
        report = pb.Report(
            model=MODEL,
            request_id=request_id,
            labels=[int(self._samples.labels[answer.row])],
            weight=float(self._samples.weights[answer.row]),
        )
        self._send_later(answer.variant, report)
        if self._random.random() < TWICE:
            self._send_later(answer.variant, report)
        if self._random.random() < NEVER:
            unknown = pb.Report(model=MODEL, request_id=f"never-{request_id}", labels=[0])
            self._send_later("", unknown)

    def _send_later(self, variant: str, report: pb.Report) -> None:
        when = asyncio.get_running_loop().time() + self._random.exponential(LATE)
        self._due.append((when, variant, report))

    async def deliver(self, everything: bool = False) -> None:
        """Report what is due, in no order."""
        now = asyncio.get_running_loop().time()
        due = [each for each in self._due if everything or each[0] <= now]
        self._due = [each for each in self._due if not everything and each[0] > now]
        self._random.shuffle(due)  # type: ignore[arg-type]
        for begin in range(0, len(due), 100):
            part = due[begin : begin + 100]
            request = pb.FeedbackRequest(reports=[report for _, _, report in part])
            response = await self._stub.Feedback(request, timeout=PATIENCE)
            for (_, variant, _), result in zip(part, response.results, strict=True):
                name = pb.Result.Outcome.Name(result.outcome).removeprefix("OUTCOME_").lower()
                self.outcomes[name] += 1
                self.counted[variant] += name == "counted"


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
        answer = Answer(row, told.parameters["variant"].string_param, float(score))
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
