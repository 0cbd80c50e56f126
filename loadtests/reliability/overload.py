"""Ten times the load that can be served, then normal again; and one tenant that floods.

    python -m loadtests.reliability.overload --out build/reliability

Overload: callers send 0.7 of the capacity, then ten times it, then 0.7 again. Who is refused does
not ask again, asks again at once, or when it was told to. Goodput is counted in half seconds by
when the requests were sent; it is normal again from the first of two seconds in a row with at least
95 % of what it was before. Fairness: one tenant sends a fifth of the capacity, another ten times it,
with and without quotas of half of the capacity each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtests.peers.environment import command_line, described, environment, stolen, stolen_since
from loadtests.peers.processes import end_tidily
from loadtests.reliability.asking import Callers, Ended, Retry, Stretch
from loadtests.reliability.served import Served, capacity, percent, percentile, serving

NORMAL, OVER = 0.7, 10.0
BUDGET = 0.25
"""Seconds."""

BIN = 0.5
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
    goodput_during: float
    tries_during: float
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


def back_after(ended: Sequence[Ended], end: float, until: float, normal: float) -> float | None:
    """Seconds from the overload's end to normal goodput that lasts."""
    at = end
    while at + STEADY <= until:
        if goodput(ended, at, at + STEADY) >= BACK * normal:
            return at - end
        at += BIN
    return None


def recovery(served: Served, most: float, retry: Retry, calm: float, over: float) -> Recovery:
    callers = Callers(served.address, served.message(), BUDGET, retry)
    end = calm + over
    stretches = [
        Stretch("all", 0.0, calm, NORMAL * most),
        Stretch("all", calm, end, OVER * most),
        Stretch("all", end, end + calm, NORMAL * most),
    ]
    asyncio.run(callers.send(stretches))
    ended = callers.ended
    # The first seconds warm up connections and what is learned.
    before = goodput(ended, calm / 4, calm)
    after = [each for each in ended if each.sent >= end + 1.0 and each.last]
    return Recovery(
        retry.value,
        most,
        sum(calm / 4 <= each.sent < calm and each.attempt == 0 for each in ended) / (calm * 3 / 4),
        before,
        goodput(ended, calm, end),
        sum(calm <= each.sent < end for each in ended) / over,
        goodput(ended, end + 1.0, end + calm),
        percent(sum(map(good, after)), len(after)),
        back_after(ended, end, end + calm, before),
        1e3 * percentile(callers.lags, 0.99),
    )


def fairness(served: Served, name: str, most: float, seconds: float, flood: bool) -> Fairness:
    callers = Callers(served.address, served.message(), BUDGET, Retry.AT_ONCE)
    stretches = [Stretch("quiet", 0.0, seconds, 0.2 * most)]
    if flood:
        stretches.append(Stretch("loud", 0.0, seconds, OVER * most))
    asyncio.run(callers.send(stretches))
    quiet = [each for each in callers.ended if each.tenant == "quiet" and each.last]
    loud = [each for each in callers.ended if each.tenant == "loud"]
    return Fairness(
        name,
        most,
        len(quiet),
        percent(sum(map(good, quiet)), len(quiet)),
        1e3 * percentile([each.answered - each.sent for each in quiet if good(each)], 0.99),
        len(loud) / seconds,
        sum(map(good, loud)) / seconds,
        dict(Counter(each.status for each in quiet)),
        1e3 * percentile(callers.lags, 0.99),
    )


def page(recoveries: Sequence[Recovery], fair: Sequence[Fairness], head: str) -> str:
    lines = [
        "## Overload, and back to normal",
        "",
        head,
        "",
        "| who is refused asks again | capacity/s | goodput before | during (tries/s) | after |"
        " attainment after, % | normal again after, s | callers' lag p99, ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in recoveries:
        back = "not in the run" if each.back is None else f"{each.back:.1f}"
        lines.append(
            f"| {each.retry} | {each.capacity:.0f} | {each.goodput_before:.1f} |"
            f" {each.goodput_during:.1f} ({each.tries_during:.0f}) | {each.goodput_after:.1f} |"
            f" {each.attainment_after:.2f} | {back} | {each.lag_p99_ms:.0f} |"
        )
    lines += [
        "",
        "## One tenant floods",
        "",
        "| | the quiet tenant's requests | in time, % | p99, ms | the loud one's tries/s |"
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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recoveries, fair = [], []
        with serving(folder) as served:
            most = capacity(served)
            for retry in Retry:
                recoveries.append(recovery(served, most, retry, asked.calm, asked.over))
                print(recoveries[-1], flush=True)
            for title, flood in (("alone", False), ("beside a flood, no quotas", True)):
                fair.append(fairness(served, title, most, asked.flood, flood))
                print(fair[-1], flush=True)
        quotas = folder / "quotas.toml"
        rate = most / 2
        quotas.write_text(QUOTAS.format(rate=rate, burst=max(1.0, rate * BUDGET)))
        with serving(folder, "--set", f"quotas={quotas}") as served:
            fair.append(fairness(served, "beside a flood, quotas", most, asked.flood, True))
            print(fair[-1], flush=True)
    head = (
        f"Made by `{command_line('loadtests.reliability.overload')}` on {described(environment())}."
        f" The host took {stolen_since(lost, whole)} of the cores. Two variants, one worker, budgets"
        f" of {1e3 * BUDGET:.0f} ms; {NORMAL:g} of the capacity for {asked.calm:g} s,"
        f" {OVER:g} times it for {asked.over:g} s, {NORMAL:g} of it again. At most three tries each"
        " within the budget."
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
