"""Stock clients as they stand against a real server: perf_analyzer, model-analyzer, KServe's.

    python -m loadtests.stock_clients --out docs/results

tritonclient's four clients are tried in tests/e2e/test_stock_clients.py, method by method.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from loadtests.peers.environment import revision
from loadtests.peers.peer import ROOT, Absent, Place, install
from loadtests.stock_clients import model_analyzer, perf_analyzer

HERE = Path(__file__).parent
ENDED_WITHIN = 600.0
READY = re.compile(r"gearshift is ready: gRPC on (\S+), metrics on http://(\S+)/metrics\n")


@contextmanager
def served(folder: Path) -> Iterator[Mapping[str, str]]:
    """The addresses of a server of the model `garment`, whose default class has time."""
    shutil.copytree(ROOT / "model_repo" / "garment", folder / "repo" / "garment")
    intent = folder / "repo" / "garment" / "model.toml"
    # perf_analyzer ends at the first refusal, and over HTTP it can name no class.
    intent.write_text(
        re.sub("default_class = .*", 'default_class = "archive"', intent.read_text()).replace(
            "budget_ms = 1000", "budget_ms = 60000"
        )
    )
    process = subprocess.Popen(
        (
            *(sys.executable, "-m", "gearshift", "serve", "--grpc-port", "0", "--http-port", "0"),
            *("--repository", str(folder / "repo"), "--state-dir", str(folder / "state")),
        ),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = READY.fullmatch(process.stdout.readline())
        if found is None:
            raise Absent("the server did not start")
        yield {"grpc": found[1], "http": found[2]}
    finally:
        process.terminate()
        process.wait(60)


def by_kserve(place: Place, addresses: Mapping[str, str]) -> Mapping[str, str]:
    install(place, "kserve")
    done = subprocess.run(
        (
            *(str(place.python("kserve")), str(HERE / "kserve_calls.py")),
            *(addresses["grpc"], addresses["http"]),
        ),
        capture_output=True,
        text=True,
        timeout=ENDED_WITHIN,
        check=False,
    )
    if done.returncode != 0:
        raise Absent(done.stderr[-500:])
    found: Mapping[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def page(perf: Mapping[str, str], analyzed: str, kserve: Mapping[str, str]) -> str:
    lines = [
        "# Stock clients, unmodified",
        "",
        f"Made by `make stock-clients` against a server of `garment` at {revision()}."
        " tritonclient's four clients (gRPC and HTTP, each also for asyncio) are tried method by"
        " method in `tests/e2e/test_stock_clients.py`. NVIDIA's example programs ship in no"
        " package, so that the same calls are made there in other words.",
        "",
        "| perf_analyzer 2.51 (20 requests) | |",
        "| --- | --- |",
        *(f"| {name} | {told} |" for name, told in perf.items()),
        "",
        "It sends no request parameters over HTTP, and ends at the first refusal: the server's"
        " default class must have time. `--shared-memory cuda` needs a GPU, which was not at hand.",
        "",
        "model-analyzer 1.58, `profile` in its remote mode with `--reload-model-disable`:"
        f" {analyzed}. It makes variants of its own by other settings of Triton's batcher and"
        " instances, of which there are none here: `--run-config-search-disable` leaves those out.",
        "",
        "| KServe 0.21 | |",
        "| --- | --- |",
        *(f"| {name} | {told} |" for name, told in kserve.items()),
    ]
    return "\n".join((*lines, ""))


def main() -> int:
    parser = argparse.ArgumentParser(description="stock clients against a real server")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "peers")
    arguments = parser.parse_args()
    place = Place(arguments.build.resolve(), {})
    program, analyzer = perf_analyzer.prepare(place), model_analyzer.prepare(place)
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as addresses:
        kserve = by_kserve(place, addresses)
        perf = {
            name: perf_analyzer.run(program, options, addresses)
            for name, options in perf_analyzer.RUNS.items()
        }
        analyzed = model_analyzer.run(analyzer, program, Path(folder) / "repo", addresses)
    (arguments.out / "stock-clients.md").write_text(page(perf, analyzed, kserve))
    failed = [f"{name}: {told}" for name, told in {**perf, **kserve}.items() if "rror" in told]
    failed += [f"{name}: {told}" for name, told in perf.items() if told != "ran to its end"]
    failed += [analyzed] if analyzed.startswith("failed") else []
    print("\n".join(failed) or "all of it works")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
