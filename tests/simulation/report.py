"""What many runs have shown, as JSON and as a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from simulation.check import Shown
from simulation.judge import INVARIANTS


@dataclass(frozen=True, slots=True)
class Found:
    """A bug put in on purpose: after how many seeds it was found (0: it was not), and by which
    invariants."""

    name: str
    after: int
    by: str


def write(
    shown: Shown, found: Sequence[Found], out: Path, seeds: range, codes: Mapping[str, int]
) -> str:
    """simulation.json and simulation.md in `out`; returns the page. `codes`: runs by the version
    of the code that they are of."""
    out.mkdir(parents=True, exist_ok=True)
    told = {
        "first_seed": seeds.start,
        "runs": shown.runs,
        "runs_by_code": dict(codes),
        "virtual_hours": round(shown.seconds / 3600, 2),
        "requests": shown.requests,
        "batches": shown.batches,
        "endings": dict(shown.endings.most_common()),
        "faults": dict(shown.faults.most_common()),
        "steps": dict(shown.troubles.most_common()),
        "invariants": {name: _of(check) for name, check in INVARIANTS.items()},
        "failures": [asdict(failure) for failure in shown.failures],
        "mutations": [asdict(each) for each in found],
    }
    (out / "simulation.json").write_text(json.dumps(told, indent=1) + "\n")
    page = _page(shown, found, seeds, codes)
    (out / "simulation.md").write_text(page)
    return page


def _of(check: object) -> str:
    return (check.__doc__ or "").strip()


def _page(shown: Shown, found: Sequence[Found], seeds: range, codes: Mapping[str, int]) -> str:
    lines = [
        "# The whole server in virtual time, with faults from a seed",
        "",
        f"`make simulate-faults RUNS={len(seeds)} SEED={seeds.start}`: {shown.runs:,} runs,"
        f" {shown.seconds / 3600:,.1f} virtual hours, {shown.requests:,} requests,"
        f" {shown.batches:,} runs of executors. Broken invariants: {len(shown.failures)} runs.",
        "",
        "Runs by the version of the code (the first digits of its SHA-256): "
        + ", ".join(f"{times:,} of `{code}`" for code, times in codes.items())
        + ".",
        "",
        *_table("how requests ended, as their callers saw it", "requests", shown.endings),
        *_table("fault of an executor", "runs that it struck", shown.faults),
        *_table("what else happened", "times", shown.troubles),
        "| invariant | what must hold |",
        "| --- | --- |",
        *(f"| `{name}` | {' '.join(_of(check).split())} |" for name, check in INVARIANTS.items()),
        "",
        "| bug put in on purpose | found after seeds | by |",
        "| --- | ---: | --- |",
        *(f"| {each.name} | {each.after or 'not found'} | {each.by} |" for each in found),
        "",
    ]
    return "\n".join(lines)


def _table(what: str, count: str, counted: Mapping[str, int]) -> list[str]:
    rows = sorted(counted.items(), key=lambda item: -item[1])
    return [
        f"| {what} | {count} |",
        "| --- | ---: |",
        *(f"| {name} | {times:,} |" for name, times in rows),
        "",
    ]
