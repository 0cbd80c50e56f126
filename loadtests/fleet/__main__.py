"""A fleet under load while its pods come and go.

    python -m loadtests.fleet --out docs/results

Two replicas behind Envoy, one of them deleted and replaced; a rolling update of three; a replica
that is killed. Needs the tools of `make tools`.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from loadtests.fleet import manifest, page, runs
from loadtests.peers.environment import stolen, stolen_since
from loadtests.peers.peer import ROOT

BUDGET = 0.5
"""Seconds: the deadline of every request."""


async def measured(folder: Path, seconds: float, rate: float) -> page.Story:
    two, three = (manifest.read(runs.rendered(count)) for count in (2, 3))
    replaced = await runs.run(two, folder, runs.one_replaced(seconds), rate=rate, budget=BUDGET)
    print("replaced", replaced.callers[0].statuses, replaced.total, flush=True)
    killed = await runs.run(
        two, folder, runs.one_killed(5, 10), rate=rate / 2, budget=BUDGET, through_channel=True
    )
    print("killed", *(each.statuses for each in killed.callers), flush=True)
    updated = await runs.run(
        three, folder, runs.rolled_out(5, 300), rate=rate / 2, budget=BUDGET, through_channel=True
    )
    print("updated", *(each.statuses for each in updated.callers), flush=True)
    return page.Story(two.template, rate, replaced, updated, killed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "fleet")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the first run")
    parser.add_argument("--rate", type=float, default=120.0, help="requests a second")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    before = stolen()
    story = asyncio.run(measured(arguments.folder, arguments.seconds, arguments.rate))
    lines = page.lines(story, stolen_since(*before))
    (arguments.out / "fleet.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
