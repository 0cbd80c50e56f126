"""What traces cost a server: processor time a request, in pairs.

    python -m loadtests.tracing_cost --out docs/results

Servers of the tiny model run side by side and are asked in turns: one without traces, others that
trace a share of the requests to a collector which throws them away; also by callers whose own
trace is not sampled. Between its turns a server has nothing to do. What counts is the time that
its whole process takes for a turn, the threads that send spans included. `--before SERVICE`, the
`service` folder of another checkout, takes part as well: the code before there were traces.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from loadtests.peers.environment import command_line, described, environment, stolen, stolen_since
from loadtests.peers.models import TINY, Files, make
from loadtests.peers.peer import ROOT, wait_until_right
from loadtests.peers.plain import write_model
from loadtests.peers.processes import Tree, end_tidily, free_port
from scipy.stats import t

CALLERS = 64
METHOD = "/inference.GRPCInferenceService/ModelInfer"
NOT_SAMPLED = (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),)
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of turn: which server, asked how, and the case that it is compared with."""

    name: str
    server: str
    metadata: Metadata = ()
    against: str = "no traces"


CASES = (
    Case("no traces", "off"),
    Case("no traces, callers with a context", "off", NOT_SAMPLED),
    Case("on, none sampled", "0"),
    Case("on, callers not sampled", "0", NOT_SAMPLED, "no traces, callers with a context"),
    Case("on, 1 % sampled", "0.01"),
    Case("on, 10 % sampled", "0.1"),
    Case("on, all sampled", "1"),
)
BEFORE = Case("the code before there were traces", "before")


@contextmanager
def collector() -> Iterator[str]:
    """Takes all spans and forgets them."""
    nothing = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
    service, _, method = EXPORT[1:].rpartition("/")
    handler = grpc.method_handlers_generic_handler(service, {method: nothing})
    server = grpc.server(ThreadPoolExecutor(1), (handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(0).wait(10)


@dataclass(frozen=True, slots=True)
class Server:
    tree: Tree
    port: int


@contextmanager
def serving(
    name: str, service: Path, folder: Path, files: Files, *options: str
) -> Iterator[Server]:
    port = free_port()
    tree = Tree(
        (
            *(sys.executable, "-m", "gearshift", "serve", "--workers", "1", "--no-drift"),
            *("--grpc-port", str(port), "--http-port", "0", "--no-feedback"),
            *("--log-level", "warning", "--repository", str(folder / "repository")),
            *("--state-dir", str(folder / "state"), *options),
        ),
        folder / f"{name}.log",
        {"PYTHONPATH": str(service)},
    )
    try:
        wait_until_right(tree, {files.name: files}, port, 1)
        yield Server(tree, port)
    finally:
        tree.end()


async def ask(port: int, message: bytes, requests: int, metadata: Metadata) -> None:
    """Each of CALLERS asks as soon as it is answered, together so many times."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(METHOD)

        async def caller() -> None:
            for _ in range(requests // CALLERS):
                await call(message, metadata=metadata, timeout=60)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))


def turn(server: Server, case: Case, message: bytes, requests: int) -> float:
    """Microseconds of processor time a request."""
    before = server.tree.cpu_seconds()
    asyncio.run(ask(server.port, message, requests, case.metadata))
    return 1e6 * (server.tree.cpu_seconds() - before) / requests


def measure(
    cases: Sequence[Case], services: Mapping[str, Path], rounds: int, requests: int
) -> Mapping[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        files = make(TINY, folder / "models")
        write_model(folder / "repository" / files.name, files)
        message = files.request.read_bytes()
        endpoint = stack.enter_context(collector())
        servers = {}
        for server in dict.fromkeys(case.server for case in cases):
            traced = server not in ("off", "before")
            options = ("--otel-endpoint", endpoint, "--trace-ratio", server) if traced else ()
            service = services.get(server, ROOT / "service")
            servers[server] = stack.enter_context(serving(server, service, folder, files, *options))
        for number in range(-1, rounds):
            for at in range(len(cases)):
                case = cases[(at + number) % len(cases)]
                cost = turn(servers[case.server], case, message, requests)
                if number >= 0:  # the one before is to warm up
                    found[case.name].append(cost)
            print({name: round(costs[-1], 1) for name, costs in found.items()}, flush=True)
    return found


def difference(costs: Sequence[float], others: Sequence[float]) -> str:
    """Mean of the pairs' differences and its 95 % interval (paired t)."""
    pairs = [one - other for one, other in zip(costs, others, strict=True)]
    middle = statistics.fmean(pairs)
    reach = float(t.ppf(0.975, len(pairs) - 1)) * statistics.stdev(pairs) / math.sqrt(len(pairs))
    return f"{middle:+.1f} ({middle - reach:+.1f} to {middle + reach:+.1f})"


def main() -> None:
    end_tidily()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=6_400, help="in a turn")
    parser.add_argument("--before", type=Path)
    arguments = parser.parse_args()
    cases, services = CASES, {}
    if arguments.before is not None:
        cases, services = (*CASES, BEFORE), {"before": arguments.before}
    lost, whole = stolen()
    found = measure(cases, services, arguments.rounds, arguments.requests)
    lines = ["| server | µs a request (median) | more than | by |", "| --- | ---: | --- | ---: |"]
    for case in cases:
        costs = found[case.name]
        told = "|  |"
        if case.name != case.against:
            told = f" {case.against} | {difference(costs, found[case.against])} |"
        lines.append(f"| {case.name} | {statistics.median(costs):.1f} |{told}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "tracing-cost.md").write_text(
        "# What traces cost\n\n"
        f"Made by `{command_line('loadtests.tracing_cost')}` on {described(environment())}."
        f" {arguments.rounds} rounds; in each, every server answers {arguments.requests:,} requests"
        f" of {CALLERS} callers to a model of microseconds, in turns. Processor time of the whole"
        " server, the threads that send spans included; the mean difference within a round, with"
        f" its 95 % interval. The host took {stolen_since(lost, whole)} of the cores.\n\n"
        + "\n".join(lines)
        + "\n"
    )


if __name__ == "__main__":
    main()
