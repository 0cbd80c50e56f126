"""What was run already: one line of JSON for each part of the seeds, so that a run of hours may be
ended and gone on with."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from simulation.check import Failure, Shown

ROOT = Path(__file__).parents[2]
SOURCES = ("service/gearshift", "tests/simulation")


def version() -> str:
    """Eight digits for the code that is run, and for what judges it."""
    told = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            told.update(path.read_bytes())
    return told.hexdigest()[:8]


def append(file: Path, seeds: range, shown: Shown, code: str) -> None:
    """One more part is done."""
    file.parent.mkdir(parents=True, exist_ok=True)
    told = {each.name: getattr(shown, each.name) for each in fields(shown)}
    told["failures"] = [asdict(each) for each in shown.failures]
    told |= {"first": seeds.start, "behind": seeds.stop, "code": code}
    with file.open("a") as stream:
        stream.write(json.dumps(told) + "\n")


def done(file: Path, parts: Iterable[range], code: str) -> Mapping[range, tuple[Shown, str]]:
    """What was shown by those of the parts that were run, and by which code. What another code
    failed at is to be run again."""
    wanted, found = set(parts), {}
    for line in file.read_text().splitlines() if file.exists() else ():
        told: dict[str, Any] = json.loads(line)
        seeds, by = range(told.pop("first"), told.pop("behind")), told.pop("code")
        failures = [Failure(**each) for each in told.pop("failures")]
        counts = {
            name: Counter(value) if isinstance(value, dict) else value
            for name, value in told.items()
        }
        if seeds in wanted and (by == code or not failures):
            found[seeds] = Shown(**counts, failures=failures), by
    return found
