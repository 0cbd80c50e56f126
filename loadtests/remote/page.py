"""docs/results/remote.md and its picture, from what the runs have left in build/remote.

python -m loadtests.remote.page --out docs/results
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
import matplotlib.ticker
from loadtests.peers.peer import ROOT
from loadtests.reliability.served import percentile
from loadtests.remote.judging import HELD_UP, NEEDS, Phase, together

mpl.use("Agg")
import matplotlib.pyplot as plt

FARS = {"gearshift": "another gearshift", "triton": "Triton 2.51"}
UNMEASURED = "Not measured yet: `python -m loadtests.remote.{module}`.\n"

HEAD = f"""\
# Servers behind: killed, frozen, slow

Made by `make bench-remote`. Servers behind are real ones, another gearshift or a real Triton, on \
the same machine; their runs sleep, as if they had hardware of their own, and they give way (`nice \
-n 10`), because a starting server takes all cores for half a second, which no machine of its own \
would take from the one in front. What is shown is what gearshift makes of servers that fail, not \
how fast a network is.

## Killed and frozen under load

A pool of two CPU workers and one server behind. The server in front has two variants of its own \
(accuracy 0.80 and 0.90) and one behind (0.95, some 25 ms a run). 80 requests a second, 400 ms \
each: seven of ten take any variant, two need 0.85, one needs 0.92, which only the one behind has. \
It is killed (SIGKILL, and started again after half a second) and frozen (SIGSTOP to its process, \
SIGCONT after two seconds) in turns.

**Lost** is an admitted request (a witness in front writes down each) that could still be \
answered in front and was not answered rightly within its budget. It could if a variant in front \
is accurate enough, and {1e3 * NEEDS:.0f} ms of its budget or more were left at the blow, or when \
it came, if that was later. Those that only the server behind could answer are told apart. **Up** \
is the server when it has answered a request that was asked of it directly, or may go on; its \
return is **noticed** when a caller in front has the first answer from there to a request sent \
since. Attainment and effective accuracy (failures count 0) are those of all requests that can be \
answered in front. Turns in which the callers' own process was held up for more than \
{1e3 * HELD_UP:.0f} ms are left out, made up for by others, and told: then this machine, which all \
share, was at something else.
"""


def killing(told: Mapping[str, Any], kind: str) -> list[str]:
    """A table's rows."""
    rows = []
    for how, all_ in told["blows"].items():
        each = [one for one in all_ if one["late"] <= HELD_UP]
        if not each:
            continue
        phases = [
            together([Phase(**one[phase]) for one in each])
            for phase in ("before", "during", "after")
        ]
        noticed = [one["noticed"] for one in each if not one["crashed"]]
        rows.append(
            f"| {FARS[kind]} | {how}, {len(each)} times"
            f" | {sum(one['under_way'] for one in each)}"
            f" | {sum(len(one['lost']) for one in each)}"
            f" | {' / '.join(f'{100 * one.attainment:.2f} %' for one in phases)}"
            f" | {' / '.join(f'{one.effective:.3f}' for one in phases)}"
            f" | {median(noticed):.2f} ({max(noticed):.2f}) |"
        )
    return rows


def held_up(told: Mapping[str, Any]) -> str:
    """What is not in the table."""
    left = [one for each in told["blows"].values() for one in each if one["late"] > HELD_UP]
    lost = sum(len(one["lost"]) for one in left)
    latest = max((one["late"] for one in left), default=0.0)
    if not left:
        return "no turn was left out"
    return (
        f"{len(left)} turns left out (held up for {latest:.2f} s at the most), {lost} lost in them"
    )


def beyond(told: Mapping[str, Any], kind: str) -> str:
    counted: Counter[str] = Counter()
    for each in told["blows"].values():
        for one in each:
            if one["late"] <= HELD_UP:
                counted.update(one["beyond"])
    how = ", ".join(f"{status} {count}" for status, count in counted.most_common()) or "none"
    crashed = sum(one["crashed"] for each in told["blows"].values() for one in each)
    anew = (
        f"; it crashed by itself after {crashed} of the freezes, whose returns are not counted, and"
        " was started anew"
        if crashed
        else ""
    )
    return (
        f"- {FARS[kind]}: {how}; {held_up(told)}{anew}. {told['machine']}; the host took"
        f" {told['taken']}."
    )


def of_killing(found: Mapping[str, Any]) -> str:
    parts = [
        HEAD,
        "| behind | it was | requests under way at the blow | lost | attainment before / during /"
        " after | effective accuracy before / during / after | noticed, s: median (longest) |",
        "| --- | --- | ---: | ---: | --- | --- | ---: |",
        *(row for kind in FARS if kind in found for row in killing(found[kind], kind)),
        "",
        "Admitted and not answered, because nothing in front is accurate enough or there was no"
        " time:",
        "",
        *(beyond(found[kind], kind) for kind in FARS if kind in found),
        *(
            f"- {title}: {UNMEASURED.format(module=f'killing --far {kind}')}"
            for kind, title in FARS.items()
            if kind not in found
        ),
        "",
    ]
    return "\n".join(parts)


def times(way: Mapping[str, Any]) -> list[float]:
    return [took for turn in way["turns"] for took in turn]


def spread(one: Mapping[str, Any], other: Mapping[str, Any], share: float) -> str:
    """How many times as long the first takes, by pairs of turns."""
    ratios = [
        percentile(mine, share) / percentile(theirs, share)
        for mine, theirs in zip(one["turns"], other["turns"], strict=True)
    ]
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def way_row(name: str, way: Mapping[str, Any], seconds: float) -> str:
    took = times(way)
    quantiles = " | ".join(f"{1e3 * percentile(took, share):.1f}" for share in (0.5, 0.99, 0.999))
    first, second = way["runs"]
    return (
        f"| {name} | {len(took)} | {len(took) / (seconds * len(way['turns'])):.0f} | {quantiles}"
        f" | {100 * first / max(1, first + second):.0f} % |"
    )


COLUMNS = (
    "| | answers | a second | p50, ms | p99, ms | p99.9, ms | runs of the first server |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
)


def of_tails(told: Mapping[str, Any], seconds: float) -> str:
    hedging, balancing = told["hedging"], told["balancing"]
    hedged, plain = hedging["hedged"], hedging["not hedged"]
    asked, more = len(times(hedged)), sum(hedged["runs"]) - len(times(hedged))
    turned = told["exchanged"]
    most = next((at for at, share in turned if share > 0.5), None)
    when = "not while it was looked at" if most is None else f"after {most:.2f} s"
    rows = "\n".join(way_row(name, way, seconds) for name, way in hedging.items())
    shares = "\n".join(way_row(name, way, seconds) for name, way in balancing.items())
    return (
        "## Hedged, while one of two servers is slow at random\n\n"
        "Two gearshifts behind, 10 ms a run; of the second's runs 3 % take 250 ms. Two callers"
        f" that ask as soon as they are answered; {len(hedged['turns'])} turns of {seconds:g} s"
        " of each way.\n\n"
        f"{COLUMNS}{rows}\n\n"
        f"Hedged, the p99 is {spread(hedged, plain, 0.99)} times what it is otherwise (median of"
        f" the pairs of turns; least to most). Second requests: {more} for {asked} answers"
        f" ({100 * more / max(1, asked):.1f} %; at most 5 % are allowed, and 5 more).\n\n"
        "## Balanced, while one of two is four times as fast\n\n"
        "10 ms and 40 ms a run, two places each, three callers.\n\n"
        f"{COLUMNS}{shares}\n\n"
        f"By what was observed, the p99 is"
        f" {spread(balancing['by what was observed'], balancing['in turns'], 0.99)} times, and the"
        " median"
        f" {spread(balancing['by what was observed'], balancing['in turns'], 0.5)} times what it is"
        " in turns. When their speeds are exchanged, the one that is fast now gets more than half"
        f" of the runs {when}.\n\n"
        "![Left: how many answers take longer than so many milliseconds, hedged and not. Right: the"
        " share of the runs that the server gets which has become the fast one](remote.png)\n\n"
        f"{told['machine']}; the host took {told['taken']}.\n"
    )


def picture(told: Mapping[str, Any], file: Path) -> None:
    figure, (tails, shares) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for name, colour in (("not hedged", "#c0392b"), ("hedged", "#1f6f8b")):
        took = sorted(1e3 * each for each in times(told["hedging"][name]))
        left = [1 - number / len(took) for number in range(len(took))]
        tails.step(took, left, where="post", color=colour, label=name)
    tails.set(
        xscale="log",
        yscale="log",
        xlabel="milliseconds",
        ylabel="share of answers that take longer",
        title="One of two servers is slow at random",
    )
    marks = (10, 20, 50, 100, 200, 300)
    tails.set_xticks(marks, labels=map(str, marks))
    tails.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    tails.axhline(0.01, color="grey", linewidth=0.8, linestyle=":")
    tails.legend(frameon=False)
    at: Sequence[float] = [each for each, _ in told["exchanged"]]
    shares.plot(at, [100 * share for _, share in told["exchanged"]], color="#1f6f8b", marker=".")
    shares.axhline(50, color="grey", linewidth=0.8, linestyle=":")
    shares.set(
        xlabel="seconds since their speeds were exchanged",
        ylabel="% of the runs",
        ylim=(0, 100),
        title="What the server gets that is fast now",
    )
    figure.savefig(file, dpi=130)
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--found", type=Path, default=ROOT / "build" / "remote")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()

    def read(name: str) -> Any:
        path = asked.found / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    killed = {kind: told for kind in FARS if (told := read(f"killing-{kind}")) is not None}
    text = of_killing(killed)
    tails = read("tails")
    if tails is None:
        text += f"\n## Slow at random, and balanced\n\n{UNMEASURED.format(module='tails')}"
    else:
        text += "\n" + of_tails(tails, tails["seconds"])
        picture(tails, asked.out / "remote.png")
    (asked.out / "remote.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
