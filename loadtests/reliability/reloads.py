"""A thousand hot reloads of a real model under load.

    python -m loadtests.reliability.reloads --out build/reliability

The fraud model of model_repo is served to Poisson arrivals with a budget. First nothing is
reloaded, for as long as the first tenth of the reloads takes; then its model.toml gets another
comment again and again, and `RepositoryModelLoad` is called each time: everything is read, hashed,
inspected, loaded, warmed up and exchanged; latencies are measured once, as the artifacts stay the
same. Resident memory, file descriptors and threads are those of the server after a tenth of the
reloads and after all. Writes `reloads.json` and `reloads.md`.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import tritonclient.grpc as triton
from loadtests.peers.environment import described, environment
from loadtests.peers.peer import ROOT

MODEL = "fraud"
START_WITHIN = 240.0
STOPPED_WITHIN = 60.0
RELOADED_WITHIN = 120.0

REFUSED = ("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION")
"""Not answered in time for load, as a server may say that has too little of it; all else but OK is
a failure."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the server's process has: megabytes of resident memory, descriptors, threads."""

    megabytes: float
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of the requests of one stretch."""

    seconds: float
    answered: int
    refused: int
    failed: int
    reasons: tuple[str, ...]

    @property
    def attainment(self) -> float:
        """Share answered in time."""
        return self.answered / max(1, self.answered + self.refused + self.failed)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of the whole run. Reloads in milliseconds."""

    reloads: int
    rate: float
    budget_ms: float
    early: Held
    late: Held
    alone: Asked
    reloading: Asked
    median_ms: float
    p99_ms: float
    longest_ms: float
    left: Mapping[str, float]
    """By model, how many generations hold memory at the end."""


def held(pid: int) -> Held:
    """From /proc."""
    status = Path(f"/proc/{pid}/status").read_text()
    figures = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE))
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Held(int(figures["VmRSS"]) / 1024, descriptors, int(figures["Threads"]))


@contextmanager
def served(repository: Path, state: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The process, its gRPC address, and the URL of its metrics."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gearshift", "serve", "--grpc-port", "0", "--http-port", "0"),
            *("--repository", str(repository), "--state-dir", str(state)),
            *("--log-level", "error"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"gRPC on (\S+), metrics on (\S+)", process.stdout.readline())
        if found is None:
            raise SystemExit("the server did not start; it has said why")
        yield process, found[1], found[2]
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOPPED_WITHIN)
        finally:
            process.kill()


@contextmanager
def asking(address: str, samples: Path, rate: float, budget: float) -> Iterator[list[Asked]]:
    """Requests until the block ends, and then what became of them."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "loadtests.reliability.load", address, MODEL, str(samples)),
            *("--rate", str(rate), "--budget", str(budget)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: list[Asked] = []
    begun = time.monotonic()
    try:
        yield found
        seconds = time.monotonic() - begun
        out, _ = process.communicate("\n", STOPPED_WITHIN)
        told = json.loads(out)
        seen = dict(told["seen"])
        answered = seen.pop("OK", 0)
        refused = sum(seen.pop(status, 0) for status in REFUSED)
        reasons = [each for each in told["failed"] if each.partition(":")[0] not in REFUSED]
        found.append(Asked(seconds, answered, refused, sum(seen.values()), tuple(reasons[:5])))
    finally:
        process.kill()
        process.wait()


def reload(client: triton.InferenceServerClient, toml: Path, text: str, number: int) -> float:
    """One reload; seconds."""
    made = toml.with_name(".model.toml")
    made.write_text(f"{text}\n# generation {number}\n")
    made.rename(toml)
    begun = time.monotonic()
    client.load_model(toml.parent.name, client_timeout=RELOADED_WITHIN)
    return time.monotonic() - begun


def generations(url: str) -> dict[str, float]:
    """As the server tells them."""
    import urllib.request

    with urllib.request.urlopen(url, timeout=10) as page:
        told = page.read().decode()
    found = re.findall(r'^gearshift_generations\{model="(\w+)"\} (\S+)$', told, re.MULTILINE)
    return {model: float(count) for model, count in found}


def run(reloads: int, rate: float, budget: float) -> Outcome:
    """The whole run on a server of its own."""
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        shutil.copytree(ROOT / "model_repo" / MODEL, repository / MODEL)
        toml = repository / MODEL / "model.toml"
        text, samples = toml.read_text(), repository / MODEL / "samples.npz"
        with (
            served(repository, Path(folder) / "state") as (process, address, url),
            triton.InferenceServerClient(address) as client,
        ):
            reload(client, toml, text, 0)  # whatever is made once is made
            tenth = reloads // 10
            with asking(address, samples, rate, budget) as alone:
                time.sleep(max(10.0, tenth * 0.1))
            took: list[float] = []
            with asking(address, samples, rate, budget) as reloading:
                for number in range(1, reloads + 1):
                    took.append(reload(client, toml, text, number))
                    if number == tenth:
                        early = held(process.pid)
            time.sleep(1.0)  # the last one is given back
            return Outcome(
                reloads=reloads,
                rate=rate,
                budget_ms=budget * 1e3,
                early=early,
                late=held(process.pid),
                alone=alone[0],
                reloading=reloading[0],
                median_ms=statistics.median(took) * 1e3,
                p99_ms=statistics.quantiles(took, n=100)[98] * 1e3,
                longest_ms=max(took) * 1e3,
                left=generations(url),
            )


def section(outcome: Outcome) -> str:
    """What the page says of it, in Markdown."""
    early, late, tenth = outcome.early, outcome.late, outcome.reloads // 10
    grown = (late.megabytes / early.megabytes - 1) * 100
    rows = [
        (
            "resident memory",
            f"{early.megabytes:.1f} MB",
            f"{late.megabytes:.1f} MB ({grown:+.1f} %)",
        ),
        ("file descriptors", str(early.descriptors), str(late.descriptors)),
        ("threads", str(early.threads), str(late.threads)),
    ]
    alone, reloading = outcome.alone, outcome.reloading
    lines = [
        f"## {outcome.reloads:,} hot reloads under load",
        "",
        f"`{MODEL}` of model_repo, {outcome.rate:g} requests a second (Poisson), each with a budget"
        f" of {outcome.budget_ms:g} ms, while it is loaded anew again and again by"
        " RepositoryModelLoad.",
        "",
        f"- Failed requests: **{reloading.failed}** of"
        f" {reloading.answered + reloading.refused + reloading.failed:,}.",
        f"- Answered in time: {reloading.attainment:.2%} while reloading,"
        f" {alone.attainment:.2%} without ({alone.seconds:.0f} s).",
        f"- A reload took {outcome.median_ms:.0f} ms (median), {outcome.p99_ms:.0f} ms (p99),"
        f" {outcome.longest_ms:.0f} ms at most.",
        f"- Generations that held memory at the end: {dict(outcome.left)}.",
        "",
        f"| | after {tenth:,} | after {outcome.reloads:,} |",
        "| --- | --- | --- |",
        *(f"| {name} | {before} | {after} |" for name, before, after in rows),
        "",
    ]
    return "\n".join([*lines, f"Made by `make bench-reloads` on {described(environment())}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--reloads", type=int, default=1_000)
    parser.add_argument("--rate", type=float, default=500.0, help="Requests a second.")
    parser.add_argument("--budget", type=float, default=0.05, help="Seconds.")
    options = parser.parse_args()
    outcome = run(options.reloads, options.rate, options.budget)
    options.out.mkdir(parents=True, exist_ok=True)
    told = {**asdict(outcome), "environment": environment()}
    (options.out / "reloads.json").write_text(json.dumps(told, indent=2) + "\n")
    (options.out / "reloads.md").write_text(section(outcome))
    print(section(outcome))
    if outcome.reloading.failed:
        sys.exit(f"requests failed: {outcome.reloading.reasons}")


if __name__ == "__main__":
    main()
