"""Faults put into real servers: does the right alert reach whoever is on call, and nothing else?

    python -m loadtests.oncall --out docs/results

Takes about a quarter of an hour. `--only NAME` tries one fault and writes no page. Exits with a
message if an alert that is expected does not come in time, or if anything else comes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from loadtests.oncall import page
from loadtests.oncall.faults import FAULTS, Fault, Seen, complaint, watched
from loadtests.peers.peer import ROOT
from pydantic import TypeAdapter

ALONE = {"overload"}
"""Faults that would disturb others on the same machine."""


def tried(fault: Fault, folder: Path, interval: float, calm: float) -> Seen:
    """In a process of its own."""
    result = folder / "seen.json"
    folder.mkdir()
    words = ["--only", fault.name, "--interval", str(interval), "--calm", str(calm)]
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.oncall", *words, "--result", str(result)],
        cwd=ROOT,
        timeout=fault.watched + calm + 300.0,
        check=False,
    )
    if not result.is_file():
        raise SystemExit(f"{fault.name}: ended with code {done.returncode} and no result")
    seen = TypeAdapter(Seen).validate_json(result.read_bytes())
    print(fault.name, complaint(fault, seen) or "as expected", flush=True)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder of the page")
    parser.add_argument("--only", choices=[fault.name for fault in FAULTS])
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between scrapes")
    parser.add_argument("--calm", type=float, default=60.0, help="seconds before each fault")
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    faults = {fault.name: fault for fault in FAULTS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.only:
            fault = faults[asked.only]
            seen = asyncio.run(watched(fault, folder, interval=asked.interval, calm=asked.calm))
            if asked.result:
                asked.result.write_text(json.dumps(asdict(seen)))
            else:
                _tell(fault, seen)
            return
        with ThreadPoolExecutor(len(FAULTS)) as pool:
            beside = {
                name: pool.submit(tried, fault, folder / name, asked.interval, asked.calm)
                for name, fault in faults.items()
                if name not in ALONE
            }
            found = {name: future.result() for name, future in beside.items()}
        for name in sorted(ALONE):
            found[name] = tried(faults[name], folder / name, asked.interval, asked.calm)
    complaints = [f"{n}: {c}" for n, fault in faults.items() if (c := complaint(fault, found[n]))]
    if complaints:
        raise SystemExit("\n".join(complaints))
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        told = [(fault, found[name]) for name, fault in faults.items()]
        page.write(told, asked.interval, asked.calm, asked.out / "oncall.md")


def _tell(fault: Fault, seen: Seen) -> None:
    for after, each in seen.after:
        print(f"{after:6.1f} s {each.receiver}: {each.name} {each.labels}")
        print(f"         {each.annotations['description']}")
    print(f"held back: {seen.held_back}; requests: {seen.statuses}")
    if wrong := complaint(fault, seen):
        raise SystemExit(f"{fault.name}: {wrong}")


if __name__ == "__main__":
    main()
