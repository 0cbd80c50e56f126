"""Ten times the load that can be served, then normal again; and one tenant that floods.

    python -m loadtests.reliability.overload --out build/reliability

Overload: callers send 0.7 of the capacity all the time, and for a minute a crowd comes on top with
ten times the capacity, which never asks again. Of the callers who are refused, none asks again, or
all at once, or when they were told to. Goodput is counted by when the requests were sent; it is
normal again from the first of eight quarters of a second in a row in each of which at least 95 % of
the requests are answered in time.
Fairness: one tenant sends a fifth of the capacity, another ten times it, with and without quotas of
a quarter of the capacity for each.

The crowd is the C client of loadtests/peers: in Python it would take the core that serves.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtests.peers.driver import Client, Run
from loadtests.peers.environment import command_line, described, environment, stolen, stolen_since
from loadtests.peers.peer import ROOT
from loadtests.peers.processes import end_tidily
from loadtests.peers.throughput import build_client
from loadtests.reliability.asking import Callers, Ended, Retry, Stretch, moments
from loadtests.reliability.served import Served, capacity, percent, percentile, serving

NORMAL, OVER = 0.7, 10.0
BUDGET = 0.25
"""Seconds."""

BIN = 0.25
STEADY = 2.0
"""Seconds: what is normal must have lasted so long."""

BACK = 0.95

QUOTAS = """\
identity = "x-tenant"
[default]
rows_per_second = {rate}
burst = {burst}
"""


@dataclass(frozen=True, slots=True)
class Recovery:
    """`back` in seconds after the overload's end, None for never."""

    retry: str
    capacity: float
    sent_before: float
    goodput_before: float
    attainment_before: float
    goodput_during: float
    crowd: float
    """Requests of the crowd a second."""
    crowd_served: float
    crowd_statuses: dict[int, int]
    crowd_late: float
    """Seconds: its connections had to be warm first, at a busy server."""
    crowd_lag_p99_ms: float
    goodput_after: float
    attainment_after: float
    back: float | None
    lag_p99_ms: float


@dataclass(frozen=True, slots=True)
class Fairness:
    name: str
    capacity: float
    quiet: int
    attainment: float
    p99_ms: float
    loud_sent: float
    loud_served: float
    statuses: dict[str, int]
    lag_p99_ms: float


def good(ended: Ended) -> bool:
    return ended.status == "OK"


def goodput(ended: Sequence[Ended], begin: float, end: float) -> float:
    """Answers a second to requests sent then."""
    return sum(good(each) and begin <= each.sent < end for each in ended) / (end - begin)


def back_after(ended: Sequence[Ended], end: float, until: float) -> float | None:
    """Seconds from the overload's end to the first BIN from which on, for STEADY seconds, every one
    has BACK of its requests answered in time."""
    at = end
    while at + STEADY <= until:
        bins = (at + BIN * number for number in range(round(STEADY / BIN)))
        if all(share_good(ended, begin, begin + BIN) >= 100 * BACK for begin in bins):
            return at - end
        at += BIN
    return None


class Crowd:
    """Comes with so many requests a second, gaps exponential, from `begin` to `end` seconds."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._client = Client(program)
        self._plan = folder / "plan.txt"

    def plan(self, rate: float, begin: float, end: float) -> None:
        stretch = [Stretch("", begin, end, rate)]
        lines = (f"{1e6 * at:.0f} 0\n" for at, _ in moments(stretch, seed=1))
        self._plan.write_text("".join(lines))

    def come(self, served: Served) -> Run:
        return self._client.open(served.port, self._plan, [(served.files, BUDGET)])


async def _together(callers: Callers, calm: Sequence[Stretch], crowd: Crowd, served: Served) -> Run:
    flood = asyncio.create_task(asyncio.to_thread(crowd.come, served))
    await callers.send(calm)
    return await flood


def share_good(ended: Sequence[Ended], begin: float, end: float) -> float:
    """Percent, of requests that were first sent then."""
    last = [each for each in ended if each.last and begin <= each.sent < end]
    return percent(sum(map(good, last)), len(last))


def recovery(
    served: Served, most: float, retry: Retry, calm: float, over: float, crowd: Crowd
) -> Recovery:
    callers = Callers(served.address, served.message(), BUDGET, retry)
    until = calm + over + calm
    crowd.plan(OVER * most, calm, calm + over)
    stretches = [Stretch("regular", 0.0, until, NORMAL * most)]
    flood = asyncio.run(_together(callers, stretches, crowd, served))
    ended = callers.ended
    warm, begin = calm / 4, calm + _late(flood, callers)
    end = begin + over
    before = goodput(ended, warm, calm)
    return Recovery(
        retry.value,
        most,
        sum(warm <= each.sent < calm and each.attempt == 0 for each in ended) / (calm - warm),
        before,
        share_good(ended, warm, calm),
        goodput(ended, begin, end),
        flood.only.sent / over,
        flood.only.in_time / over,
        dict(flood.only.statuses),
        begin - calm,
        flood.lag_p99_ms,
        goodput(ended, end + 1.0, until),
        share_good(ended, end + 1.0, until),
        back_after(ended, end, until),
        1e3 * percentile(callers.lags, 0.99),
    )


def _late(flood: Run, callers: Callers) -> float:
    """Seconds that the crowd's clock began after the callers': it had to connect and warm up at a
    busy server first."""
    return flood.begun - callers.begun


def fairness(
    served: Served, name: str, most: float, seconds: float, crowd: Crowd | None
) -> Fairness:
    callers = Callers(served.address, served.message(), BUDGET, Retry.AS_TOLD)
    stretches = [Stretch("quiet", 0.0, seconds, 0.2 * most)]
    sent = got = begin = 0.0
    end = math.inf
    if crowd is None:
        asyncio.run(callers.send(stretches))
    else:
        crowd.plan(OVER * most, 0.0, seconds)
        flood = asyncio.run(_together(callers, stretches, crowd, served))
        sent, got = flood.only.sent / seconds, flood.only.in_time / seconds
        begin = _late(flood, callers)
        end = begin + seconds
    quiet = [each for each in callers.ended if each.last and begin <= each.sent < end]
    return Fairness(
        name,
        most,
        len(quiet),
        percent(sum(map(good, quiet)), len(quiet)),
        1e3 * percentile([each.answered - each.sent for each in quiet if good(each)], 0.99),
        sent,
        got,
        dict(Counter(each.status for each in quiet)),
        1e3 * percentile(callers.lags, 0.99),
    )


def page(recoveries: Sequence[Recovery], fair: Sequence[Fairness], head: str) -> str:
    lines = [
        "## Overload, and back to normal",
        "",
        head,
        "",
        "| who is refused asks again | capacity/s | goodput before (in time, %) | during |"
        " the crowd's requests/s (answers/s) | after (in time, %) | normal again after, s |"
        " callers' lag p99, ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in recoveries:
        back = "not in the run" if each.back is None else f"{each.back:.1f}"
        lines.append(
            f"| {each.retry} | {each.capacity:.0f} |"
            f" {each.goodput_before:.1f} ({each.attainment_before:.2f}) |"
            f" {each.goodput_during:.1f} | {each.crowd:.0f} ({each.crowd_served:.1f}) |"
            f" {each.goodput_after:.1f} ({each.attainment_after:.2f}) | {back} |"
            f" {each.lag_p99_ms:.0f} |"
        )
    lines += [
        "",
        "## One tenant floods",
        "",
        "| | the quiet tenant's requests | in time, % | p99, ms | the loud one's requests/s |"
        " answers/s | lag p99, ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in fair:
        lines.append(
            f"| {one.name} | {one.quiet} | {one.attainment:.2f} | {one.p99_ms:.0f} |"
            f" {one.loud_sent:.0f} | {one.loud_served:.1f} | {one.lag_p99_ms:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    end_tidily()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--calm", type=float, default=20.0, help="seconds before and after")
    parser.add_argument("--over", type=float, default=60.0, help="seconds of overload")
    parser.add_argument("--flood", type=float, default=60.0, help="seconds of a fairness run")
    asked = parser.parse_args()
    lost, whole = stolen()
    program = build_client(ROOT / "build" / "peers" / "client")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        crowd = Crowd(program, folder)
        recoveries, fair = [], []
        with serving(folder) as served:
            most = capacity(served)
            for retry in Retry:
                recoveries.append(recovery(served, most, retry, asked.calm, asked.over, crowd))
                print(recoveries[-1], flush=True)
            for title, flood in (("alone", None), ("beside a flood, no quotas", crowd)):
                fair.append(fairness(served, title, most, asked.flood, flood))
                print(fair[-1], flush=True)
        quotas = folder / "quotas.toml"
        rate = most / 4
        quotas.write_text(QUOTAS.format(rate=rate, burst=max(1.0, rate * BUDGET)))
        with serving(folder, "--set", f"quotas={quotas}") as served:
            fair.append(fairness(served, "beside a flood, quotas", most, asked.flood, crowd))
            print(fair[-1], flush=True)
    head = (
        f"Made by `{command_line('loadtests.reliability.overload')}` on {described(environment())}."
        f" The host took {stolen_since(lost, whole)} of the cores. Two variants, one worker,"
        f" budgets of {1e3 * BUDGET:.0f} ms. The callers send {NORMAL:g} of the capacity all the"
        f" time, with at most three tries within the budget; after {asked.calm:g} s a crowd comes"
        f" for {asked.over:g} s with {OVER:g} times the capacity, and does not ask again."
    )
    asked.out.mkdir(parents=True, exist_ok=True)
    told = {
        "recoveries": [asdict(each) for each in recoveries],
        "fairness": [asdict(each) for each in fair],
    }
    (asked.out / "overload.json").write_text(json.dumps(told, indent=1))
    (asked.out / "overload.md").write_text(page(recoveries, fair, head))


if __name__ == "__main__":
    main()
