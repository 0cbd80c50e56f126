"""Faults put into real servers under load, one after the other: what callers see, what is lost.

    python -m loadtests.reliability.table

Stock gRPC clients (`grpc.aio`) send requests all the time, exponential gaps, whose right answers
they know: most leave the variant to the server, others have a floor or pin one, a tenth ask another
model. Each fault is put in after a while, held, and taken away; then it is waited until the callers
have their answers as before. **Lost** is a request that had no ending within ten seconds, an answer
that is wrong, below its floor, or of another variant than the pinned one. A status counts as
strange that neither a lack of time or room nor this fault explains. Until normal: seconds from the
end of the fault to the first moment from which on, for a second, attainment is at its level (within
five points). A fault whose own evidence shows no effect is a failure of the run, too.

Writes faults.json and faults.md; ends with 1 if anything was lost, strange or not normal in time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtests.peers.environment import described, environment, stolen, stolen_since
from loadtests.peers.peer import ROOT
from loadtests.peers.processes import end_tidily, runs
from loadtests.reliability.callers import Callers
from loadtests.reliability.endings import STEADY, Judged, back_after, judge
from loadtests.reliability.faults import clients, executors, files, repositories
from loadtests.reliability.faults.fault import Fault, Group
from loadtests.reliability.faults.scene import Scene

BEFORE = 2.0
"""Seconds in which attainment's level is found."""

LOOK_EVERY = 0.1
TELLING = (
    "gearshift_second_chances_total",
    "gearshift_breaker_opened_total",
    "gearshift_workers_lost_total",
    "gearshift_reloads_total",
    "gearshift_denied_total",
    "gearshift_quota_refused_total",
    "gearshift_limit_reached_total",
    "gearshift_connections_refused_total",
)
"""What a server counts of faults."""

TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True, slots=True)
class Row:
    """One fault: what was told to who put it in, what the server counted, what the callers saw;
    `problems` is empty where all was as it should be."""

    group: str
    name: str
    told: str
    counted: dict[str, float]
    judged: Judged
    same_process: bool
    problems: tuple[str, ...]


async def strike(group: Group, fault: Fault, scene: Scene, callers: Callers) -> Row:
    callers.kinds = fault.kinds
    await asyncio.sleep(0.1)
    problems: list[str] = []
    said: list[str] = []
    counted = await asyncio.to_thread(scene.metrics)
    pid, begun = scene.pid, time.monotonic()
    await asyncio.sleep(BEFORE)
    struck = time.monotonic()
    for act, pause in ((fault.strike, fault.seconds), (fault.mend, 0.0)):
        try:
            said.append(await asyncio.to_thread(act, scene))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other faults are still put in
            problems.append(f"{type(error).__name__}: {error}")
        await asyncio.sleep(pause)
    ended = time.monotonic()
    level = judge(callers.endings, begun, struck, ended, ended).before
    deadline = ended + fault.normal_within
    while time.monotonic() < deadline:
        # What is still under way counts as not in time.
        if back_after(callers.endings, level, ended, time.monotonic() - callers.budget) is not None:
            break
        await asyncio.sleep(LOOK_EVERY)
    until = time.monotonic()
    await callers.settled()
    try:
        now = await asyncio.to_thread(scene.metrics)
    except OSError as error:
        now = {}
        problems.append(f"/metrics: {error}")
    return Row(
        group=group.name,
        name=fault.name,
        told="; ".join(filter(None, said)).replace(f"{scene.folder}/", ""),
        counted=grown(counted, now),
        judged=judge(callers.endings, begun, struck, ended, until, fault.seen),
        same_process=scene.pid == pid and runs(pid),
        problems=tuple(problems),
    )


def grown(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What of TELLING has become more, without `gearshift_`."""
    return {
        name.removeprefix("gearshift_"): more
        for name, value in after.items()
        if name.startswith(TELLING) and (more := value - before.get(name, 0.0)) > 0
    }


def problems(fault: Fault, row: Row) -> tuple[str, ...]:
    """All that is not as it should be."""
    judged = row.judged
    found = [*row.problems, *(f"lost: {each}" for each in judged.lost)]
    found += [f"strange: {status}" for status in judged.strange]
    if judged.until_normal is None:
        found.append(f"not normal after {fault.normal_within:g} s")
    if fault.same and not row.same_process:
        found.append("not the same process")
    wanted = fault.counted.removeprefix("gearshift_")
    if wanted and not any(name.startswith(wanted) for name in row.counted):
        found.append(f"the server has not counted it in {fault.counted}")
    return tuple(found)


def group_of(group: Group, only: str, rate: float, budget: float) -> tuple[list[Row], list[str]]:
    """Its rows, and the tracebacks in the server's logs."""
    chosen = [fault for fault in group.faults if only in f"{group.name}: {fault.name}"]
    if not chosen:
        return [], []
    scene = group.scene()
    log = ""
    try:
        rows = asyncio.run(in_turn(group, chosen, scene, rate, budget))
    finally:
        log = scene.close()
    return rows, [part[:1_500] for part in log.split(TRACEBACK)[1:]]


async def in_turn(
    group: Group, chosen: Sequence[Fault], scene: Scene, rate: float, budget: float
) -> list[Row]:
    callers = Callers(scene.channel, rate, budget, scene.metadata)
    asking = asyncio.create_task(callers.run())
    rows: list[Row] = []
    try:
        await asyncio.sleep(STEADY)
        for fault in chosen:
            row = await strike(group, fault, scene, callers)
            rows.append(Row(**{**_fields(row), "problems": problems(fault, row)}))
            print(line(rows[-1]), flush=True)
            if not scene.tree.alive:
                await asyncio.to_thread(scene.start)
            await asyncio.to_thread(scene.afresh)
            callers.endings.clear()
    finally:
        callers.stop.set()
        await asking
    return rows


def _fields(row: Row) -> dict[str, object]:
    return {name: getattr(row, name) for name in Row.__slots__}


def line(row: Row) -> str:
    """Of the table."""
    judged = row.judged
    seen = ", ".join(f"{status} ({count:,})" for status, count in judged.statuses.items())
    back = "not waited out" if judged.until_normal is None else f"{judged.until_normal:.2f}"
    shares = " / ".join(f"{100 * s:.0f}" for s in (judged.before, judged.during, judged.after))
    lost = "; ".join(row.problems) or "nothing"
    counted = ", ".join(f"{name} +{value:g}" for name, value in row.counted.items())
    told = "; ".join(filter(None, (clipped(row.told), clipped(counted))))
    cells = (row.name, told, seen, shares, lost, back, "yes" if row.same_process else "no")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


LONGEST = 160
"""Letters of a cell."""


def clipped(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rsplit(' ', 1)[0]} ..."


def page(rows: Sequence[Row], head: str) -> str:
    """In Markdown, a table for each kind of server."""
    bad = [row for row in rows if row.problems]
    asked = sum(row.judged.asked for row in rows)
    lines = [
        "## Faults",
        "",
        " ".join((__doc__ or "").split("reliability.table\n", 1)[1].split("Writes ")[0].split()),
        "",
        head,
        "",
        f"**{len(rows)} faults, {asked:,} requests sent while they were there or afterwards;"
        f" {len(bad)} faults with something lost or not as it should be.**",
    ]
    for group in dict.fromkeys(row.group for row in rows):
        lines += [
            "",
            f"### {group.capitalize()}",
            "",
            "| fault | what was said, what the server counted | what the callers saw | in time, %:"
            " before / during / after | lost or wrong | until normal, s | same process |",
            "| --- | --- | --- | --- | --- | ---: | --- |",
            *(line(row) for row in rows if row.group == group),
        ]
    return "\n".join(lines) + "\n"


def groups() -> list[Group]:
    # From here, because its certificates and tokens are those of the tests.
    from loadtests.reliability.faults import access

    parts = (executors, repositories, files, clients, access)
    return [group for part in parts for group in part.GROUPS]


def main() -> int:
    end_tidily()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="faults whose `group: name` contains this")
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second")
    parser.add_argument("--budget", type=float, default=0.3, help="seconds")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "reliability")
    asked = parser.parse_args()
    before = stolen()
    rows: list[Row] = []
    tracebacks: dict[str, list[str]] = {}
    for group in groups():
        found, logged = group_of(group, asked.only, asked.rate, asked.budget)
        rows += found
        if logged:
            tracebacks[group.name] = logged
    head = (
        f"Made by `make bench-faults` on {described(environment())}. {asked.rate:g} requests a"
        f" second with budgets of {1e3 * asked.budget:g} ms; callers and server share the cores, of"
        f" which the host took {stolen_since(*before)}."
    )
    asked.out.mkdir(parents=True, exist_ok=True)
    told = {"rows": [asdict(row) for row in rows], "tracebacks": tracebacks}
    (asked.out / "faults.json").write_text(json.dumps(told, indent=1) + "\n")
    (asked.out / "faults.md").write_text(page(rows, head))
    for row in rows:
        for problem in row.problems:
            print(f"{row.group}: {row.name}: {problem}")
    for name, logged in tracebacks.items():
        print(f"{name}: {len(logged)} tracebacks in the server's log, the first: {logged[0]}")
    return 1 if any(row.problems for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
