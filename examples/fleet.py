"""One gearshift in front of two: small variants in front, large ones behind.

    python examples/fleet.py            (or: make fleet)

Starts three servers on this machine with the shipped model `garment`, asks the one in front with
stock tritonclient, and says what was answered where and why, what each level had of the budget, and
what happens when more ask at a time than the servers behind have places for, and when they end.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

MODEL = "garment"
ALL_MS = 50
SHIPPED = Path(__file__).resolve().parents[1] / "model_repo" / MODEL

# Small ones run in front. What is behind is one variant there, as accurate as the least of those
# that are behind: whichever answers, the answer is no worse than what is promised.
FRONT, LARGE = ("student", "mini", "tiny"), ("teacher-int8", "pruned")
PROMISED = 0.952

# Its own budgets and floors would hold as well: this class has none.
CLASSES = """\
metric = "top1"
max_batch_size = 64
default_class = "fleet"

[classes.fleet]
"""
VARIANT = '\n[[variants]]\nname = "{}"\nversion = {}\nexecutor = "{}"\n'

HEAD = f"""\
# A fleet of two levels

Made by `make fleet OUT=docs/results/fleet-levels.md` on {{machine}}. One gearshift in front of two,
with the shipped model `garment`, all three and the callers on this machine. In the first table one
caller asks with each budget; in the second many ask at a time, with {ALL_MS} ms each, while both
servers behind are there, one, or none. Callers ask as soon as they are answered, and ask again at
once when they are refused.
"""

BUDGETS_MS = (1000, 50, 8, 2)
MOST = 60.0
"""Seconds; a call without a deadline is said to have 9e18 of them left."""

AT_ONCE = (1, 4, 16)


@dataclass
class Server:
    grpc: str
    http: str
    process: subprocess.Popen[str]

    def runs(self) -> Counter[str]:
        """Requests that each variant has answered so far."""
        with triton.InferenceServerClient(self.grpc) as client:
            told = client.get_inference_statistics(MODEL)
        return Counter(
            {
                LARGE[int(each.version) - 1]: each.inference_stats.success.count
                for each in told.model_stats
            }
        )


class Way(grpc.GenericRpcHandler):
    """A way to a server that notes the budget, in ms, with which each inference passes."""

    def __init__(self, server: Server) -> None:
        self.budgets: list[float] = []
        self._channel = grpc.insecure_channel(server.grpc)
        self._server = grpc.server(ThreadPoolExecutor(8), handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = details.method

        def passed(message: bytes, context: grpc.ServicerContext) -> bytes:
            left = context.time_remaining()
            if method.endswith("/ModelInfer"):
                # Not the deadline, which gRPC rounds up to three digits.
                told = service_pb2.ModelInferRequest.FromString(message).parameters
                if "latency_budget_ms" in told:
                    self.budgets.append(told["latency_budget_ms"].double_param)
            try:
                return self._channel.unary_unary(method)(message, timeout=min(left, MOST))
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
            raise AssertionError

        return grpc.unary_unary_rpc_method_handler(passed)

    def close(self) -> None:
        self._server.stop(None).wait()
        self._channel.close()


@contextmanager
def served(place: Path, *options: str) -> Iterator[Server]:
    """`gearshift serve` of a repository, until the block ends."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gearshift", "serve", "--repository", str(place / "models")),
            *("--state-dir", str(place / "state"), "--grpc-port", "0", "--http-port", "0"),
            *("--log-level", "error", "--no-feedback", "--no-drift", *options),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"gRPC on (\S+), metrics on (\S+)/metrics", line)
        if found is None:
            raise SystemExit(f"it said {line!r} instead of its addresses")
        yield Server(found[1], found[2], process)
    finally:
        process.terminate()
        process.wait(60)


def repository(place: Path, names: Sequence[str], more: str = "") -> Path:
    """A repository of some variants of the shipped model."""
    folder = place / "models" / MODEL
    text = CLASSES
    for version, name in enumerate(names, start=1):
        shutil.copytree(SHIPPED / name, folder / name)
        text += VARIANT.format(name, version, "onnx")
    (folder / "model.toml").write_text(text + more)
    return place


def in_front(place: Path, behind: Sequence[str]) -> Path:
    far = VARIANT.format("behind", len(FRONT) + 1, "triton") + f"accuracy = {PROMISED}\n"
    repository(place, FRONT, far)
    remote = place / "models" / MODEL / "behind" / "remote.toml"
    remote.parent.mkdir()
    servers = ", ".join(f'"{address}"' for address in behind)
    remote.write_text(f"servers = [{servers}]\nslots = 2\n")
    return place


@dataclass
class Told:
    """What callers heard."""

    took: list[float] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


def ask(address: str, budget_ms: float, callers: int, seconds: float) -> Told:
    """Callers that ask as soon as they are answered."""
    told, end = Told(), time.monotonic() + seconds

    def call() -> None:
        pixels = triton.InferInput("pixels", [1, 28, 28], "UINT8")
        pixels.set_data_from_numpy(np.zeros((1, 28, 28), np.uint8))
        with triton.InferenceServerClient(address) as client:
            while (begun := time.monotonic()) < end:
                options: dict[str, Any] = {"latency_budget_ms": budget_ms}
                try:
                    answer = client.infer(MODEL, [pixels], parameters=options, client_timeout=10)
                except InferenceServerException as error:
                    told.refused[str(error.status()).removeprefix("StatusCode.")] += 1
                    continue
                said = answer.get_response().parameters
                told.took.append(time.monotonic() - begun)
                told.answered[said["variant"].string_param] += 1
                told.reasons[said["reason"].string_param] += 1

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def shares(counted: Counter[str]) -> str:
    """The most first."""
    total = sum(counted.values())
    return ", ".join(
        f"{name} {100 * count / total:.0f} %" for name, count in counted.most_common() if count
    )


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def by_budget(
    front: Server, behind: Sequence[Server], ways: Sequence[Way], seconds: float
) -> list[str]:
    lines = [
        row(
            *("budget in front", "answered by", "because", "behind, by"),
            *("budget behind, ms", "answered after, ms (medians)"),
        ),
        row("---:", "---", "---", "---", "---:", "---:"),
    ]
    for budget in BUDGETS_MS:
        before = [each.runs() for each in behind]
        for way in ways:
            way.budgets.clear()
        told = ask(front.grpc, budget, 1, seconds)
        ran: Counter[str] = Counter()
        for each, runs in zip(behind, before, strict=True):
            ran += each.runs() - runs
        budgets = [each for way in ways for each in way.budgets]
        lines.append(
            row(
                f"{budget} ms",
                shares(told.answered) or shares(told.refused),
                shares(told.reasons),
                shares(ran) or "-",
                f"{median(budgets):.1f}" if budgets else "-",
                f"{1e3 * median(told.took):.1f}" if told.took else "-",
            )
        )
    return lines


def by_load(front: Server, seconds: float, what: str) -> list[str]:
    lines = []
    for callers in AT_ONCE:
        told = ask(front.grpc, ALL_MS, callers, seconds)
        lines.append(
            row(
                what,
                callers,
                f"{len(told.took) / seconds:.0f}",
                shares(told.answered),
                shares(told.reasons),
                sum(told.refused.values()),
            )
        )
    return lines


def machine() -> str:
    """Its processor, by whatever name the system has for it."""
    found = platform.processor() or platform.machine()
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text()
        found = (re.findall(r"^model name\s*: (.*)$", text, re.M) or [found])[0]
    return f"{os.cpu_count()} cores of {found}, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each line of the tables")
    parser.add_argument("--out", type=Path, help="write the tables there as well")
    asked = parser.parse_args()
    lines = [f"In front: {', '.join(FRONT)}, and `behind`: on two servers with {', '.join(LARGE)}."]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with (
            served(repository(place / "a", LARGE), "--workers", "1") as one,
            served(repository(place / "b", LARGE), "--workers", "1") as two,
        ):
            ways = Way(one), Way(two)
            with served(in_front(place / "front-1", [way.address for way in ways])) as front:
                lines += ["", *by_budget(front, (one, two), ways, asked.seconds), ""]
            for way in ways:
                way.close()
            with served(in_front(place / "front-2", [one.grpc, two.grpc])) as front:
                lines += [
                    row(
                        "behind are",
                        "callers",
                        "answers a second",
                        "answered by",
                        "because",
                        "refused",
                    ),
                    row("---", "---:", "---:", "---", "---", "---:"),
                    *by_load(front, asked.seconds, "both"),
                ]
                one.process.kill()
                lines += by_load(front, asked.seconds, "one: the other was killed")
                two.process.kill()
                lines += by_load(front, asked.seconds, "none")
    text = "\n".join(lines) + "\n"
    print(text)
    if asked.out is not None:
        asked.out.write_text(f"{HEAD.format(machine=machine())}\n{text}")


if __name__ == "__main__":
    main()
