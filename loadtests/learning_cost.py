"""What learning costs the requests: feedback, shadows and drift on and off, in turns.

    python -m loadtests.learning_cost --out docs/results

The traffic of `loadtests.real_two_core`, against a fresh server each time: with everything off,
as it comes (answers kept, one in a hundred lesser ones run again in spare time, inputs watched),
and with every lesser answer offered for another run. No labels are reported: the client, which
must not be slower than the server, knows no ids.
"""

from __future__ import annotations

import argparse
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.peers.driver import Client
from loadtests.peers.environment import described, environment, stolen
from loadtests.peers.throughput import build_client, real_time, write_plan
from loadtests.real_two_core import STATE, TRAFFIC, Files, one_class_each, workload, write_files

SETTINGS: Mapping[str, Sequence[str]] = {
    "off": ("--no-feedback", "--no-drift", "--shadow-share", "0"),
    "on": (),
    "all shadowed": ("--shadow-share", "1"),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: share of fraud checks in time, their p99, share of all others in time, runs in
    spare time, processor seconds of the server, and the share of the cores the host took."""

    fraud: float
    p99_ms: float
    others: float
    shadows: float
    cpu: float
    taken: float


def asked(
    client: Client, plan: Path, repository: Path, files: Sequence[Files], options: Sequence[str]
) -> Cell:
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gearshift", "serve", "--grpc-port", "0"),
                *("--http-port", "0", "--repository", str(repository), "--workers", "2"),
                *("--log-level", "error", "--state-dir", str(STATE)),
                *("--feedback-url", f"sqlite:///{folder}/feedback.db", *options),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            found = re.search(r"gRPC on \S+:(\d+), metrics on (\S+)", process.stdout.readline())
            assert found is not None
            budgets = [traffic.budget_ms / 1e3 for traffic in TRAFFIC]
            before, lost, whole = used(process.pid), *stolen()
            run = client.open(int(found[1]), plan, list(zip(files, budgets, strict=True)))
            now_lost, now_whole = stolen()
            cpu = used(process.pid) - before
            with urllib.request.urlopen(found[2], timeout=10) as page:
                told = page.read().decode()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    shadows = re.findall(r"^gearshift_shadow_total\{.*\} (\S+)$", told, re.MULTILINE)
    kinds = [run.kinds[each.name] for each in files]
    others = kinds[1:]
    return Cell(
        fraud=100 * kinds[0].in_time / kinds[0].sent,
        p99_ms=kinds[0].p99_ms,
        others=100 * sum(k.in_time for k in others) / sum(k.sent for k in others),
        shadows=sum(map(float, shadows)),
        cpu=cpu,
        taken=100 * (now_lost - lost) / (now_whole - whole),
    )


def used(pid: int) -> float:
    """Seconds of processor time until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def spread(values: Sequence[float], digits: int) -> str:
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.25, 1.0])
    arguments = parser.parse_args()
    cells: dict[tuple[float, str], list[Cell]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        client = Client(build_client(folder / "client"), real_time())
        repository = one_class_each(folder)
        files = [write_files(traffic, folder) for traffic in TRAFFIC]
        for number in range(arguments.rounds):
            for load in arguments.loads:
                write_plan(folder / "plan.txt", workload(load, arguments.seconds, number))
                turns = list(SETTINGS)
                for turn in range(len(turns)):
                    setting = turns[(turn + number) % len(turns)]
                    plan = folder / "plan.txt"
                    cell = asked(client, plan, repository, files, SETTINGS[setting])
                    cells[load, setting].append(cell)
                    print(load, setting, cell, flush=True)
    lines = [
        "| load | learning | fraud in time % | fraud p99 ms | the others in time % |"
        " runs in spare time | server's CPU s | taken by the host % |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (load, setting), those in cells.items():
        shown = ("fraud", 2), ("p99_ms", 2), ("others", 2), ("shadows", 0), ("cpu", 2)
        told = [spread([getattr(cell, part) for cell in those], digits) for part, digits in shown]
        taken = spread([cell.taken for cell in those], 1)
        lines.append(f"| {load:g} | {setting} | {' | '.join(told)} | {taken} |")
    differences = ["", "Fraud in time, on minus off in the same round, in points:", ""]
    for load in arguments.loads:
        for setting in ("on", "all shadowed"):
            pairs = zip(cells[load, setting], cells[load, "off"], strict=True)
            found = [one.fraud - other.fraud for one, other in pairs]
            differences.append(f"- load {load:g}, {setting}: {spread(found, 2)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "learning-cost.md").write_text(
        "# What learning costs the requests\n\n"
        "Made by `python -m loadtests.learning_cost --out docs/results`"
        f" ({arguments.rounds} rounds of {arguments.seconds:g} s in turns; median, least and most)"
        f" on {described(environment())}. What the traffic is stands in"
        " `loadtests/real_two_core.py`; the client shares the two cores with the server, at"
        " real-time priority. Off: no feedback, no shadows, no drift. On: as it comes. All"
        " shadowed: every answer of a lesser variant is offered for another run on the best one."
        "\n\n" + "\n".join([*lines, *differences]) + "\n"
    )


if __name__ == "__main__":
    main()
