"""Coverage-guided fuzzing of all targets, with totals that add up over runs.

    python -m fuzz [TARGET ...] --seconds 60 [--inputs 100000] [--out build/reliability]

Each target runs in a process of its own, as many at a time as there are cores, for at most so many
seconds or inputs. What reached new code is kept under OUT/fuzz/<target>/ and begun from the next
time. A finding is saved under tests/fuzz/corpus/<target>/, where `make test` runs it from then on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from fuzz.targets import TARGETS

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
MOST_MEMORY_MB = 2048
"""Resident, of one target's process; more is a finding."""

LONGEST_INPUT_S = 600
"""Seconds by the clock after which a target hangs for good; `guided` counts its own CPU time."""

PROGRESS = re.compile(
    r"#(?P<inputs>\d+)\s+\w+\s+cov: (?P<covered>\d+) ft: (?P<features>\d+)"
    r".*?rss: (?P<memory>\d+)Mb"
)
EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
PEAK = re.compile(r"stat::peak_rss_mb:\s+(\d+)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--inputs", type=int, default=-1, help="for each target, -1 for any number")
    parser.add_argument("--out", type=Path, default=Path("build/reliability"))
    asked = parser.parse_args()
    unknown = set(asked.targets) - TARGETS.keys()
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are: {', '.join(TARGETS)}")
    found = 0

    def one(name: str) -> tuple[str, dict[str, int]]:
        return name, run(name, asked.seconds, asked.inputs, asked.out)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        running = [threads.submit(one, name) for name in asked.targets or TARGETS]
        for ended in as_completed(running):
            name, ran = ended.result()
            found += ran["findings"]
            total = add(asked.out / "fuzz.json", name, ran)
            print(
                f"{name}: {ran['inputs']} inputs in {ran['seconds']} s, {total['inputs']} in all,"
                f" {ran['features']} features, {ran['findings']} findings",
                flush=True,
            )
    (asked.out / "fuzz.md").write_text(page(json.loads((asked.out / "fuzz.json").read_text())))
    return 1 if found else 0


def run(name: str, seconds: int, inputs: int, out: Path) -> dict[str, int]:
    """What one run of a target came to."""
    kept = out / "fuzz" / name
    kept.mkdir(parents=True, exist_ok=True)
    saved = CORPUS / name
    saved.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds()):
        (kept / f"seed-{number}").write_bytes(seed)
    before = set(saved.iterdir())
    words = out / "fuzz" / f"{name}.words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in TARGETS[name].words))
    command = [
        *(sys.executable, "-m", "fuzz.guided", name),
        f"-max_total_time={seconds}",
        f"-runs={inputs}",
        f"-rss_limit_mb={MOST_MEMORY_MB}",
        f"-timeout={LONGEST_INPUT_S}",
        f"-artifact_prefix={saved}/",
        *([f"-dict={words}"] if TARGETS[name].words else []),
        "-print_final_stats=1",
        "-report_slow_units=1000000",  # by the clock: on a busy machine that says nothing
        "-verbosity=1",
        str(kept),
        str(saved),
    ]
    began = time.monotonic()
    log = out / "fuzz" / f"{name}.log"
    with log.open("wb") as stream:
        try:
            code = subprocess.run(
                command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONHASHSEED": "0"},
                timeout=seconds + 2 * LONGEST_INPUT_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = 1  # it was ended: a hang that nothing else noticed
    told = log.read_text(errors="replace")
    lines = list(PROGRESS.finditer(told))
    if not lines:
        sys.exit(f"{name} did not begin: see {log}")
    last = lines[-1]
    executed, peak = EXECUTED.search(told), PEAK.search(told)
    new = len(set(saved.iterdir()) - before)
    return {
        "inputs": int(executed[1] if executed else last["inputs"]),
        "seconds": round(time.monotonic() - began),
        "features": int(last["features"]),
        "memory_mb": int(peak[1] if peak else last["memory"]),
        "findings": new or int(code != 0),
    }


def add(file: Path, name: str, ran: dict[str, int]) -> dict[str, int]:
    """Sum up in `file`; findings are only those of the last run: what is fixed is none."""
    totals = json.loads(file.read_text()) if file.exists() else {}
    before = totals.get(name, {})
    totals[name] = {
        "inputs": before.get("inputs", 0) + ran["inputs"],
        "seconds": before.get("seconds", 0) + ran["seconds"],
        "features": ran["features"],
        "memory_mb": max(before.get("memory_mb", 0), ran["memory_mb"]),
        "findings": ran["findings"],
    }
    file.write_text(json.dumps(totals, indent=2) + "\n")
    return totals[name]


def page(totals: dict[str, dict[str, int]]) -> str:
    """The totals as a page in Markdown."""
    lines = [
        "# Fuzzing\n",
        "Written by `make fuzz`, which adds to what earlier runs came to; do not edit by hand."
        f" Machine: {os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python"
        f" {platform.python_version()}.\n",
        "Each input is bytes that were changed until they reached new code (atheris, libFuzzer)."
        " None may raise what is no error of the project's own tree, end with a status outside the"
        f" table, take {MOST_MEMORY_MB} MB or ten seconds of processor, or leave a server that does"
        " not answer as before.\n",
        "| target | inputs | a second | features of coverage | peak memory, MB | open findings |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in sorted(totals, key=list(TARGETS).index):
        told = totals[name]
        speed = told["inputs"] / max(1, told["seconds"])
        lines.append(
            f"| {name} | {told['inputs']:,} | {speed:,.0f} | {told['features']:,}"
            f" | {told['memory_mb']:,} | {told['findings']} |"
        )
    inputs = sum(told["inputs"] for told in totals.values())
    findings = sum(told["findings"] for told in totals.values())
    lines.append(f"| all | {inputs:,} | | | | {findings} |")
    return "\n".join(lines) + "\n"


def _escaped(word: bytes) -> str:
    """As libFuzzer's dictionaries have it."""
    return "".join(f"\\x{byte:02X}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())
