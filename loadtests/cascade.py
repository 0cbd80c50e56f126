"""A cascade on the real server: is it as good as its better variant, at a fraction of the time?

    python -m loadtests.cascade --out docs/results

All 10,000 test pictures of Fashion-MNIST go to the server with the shipped models through stock
tritonclient, one a request: pinned to `teacher-int8`, to the first variant alone, and to the
cascade of both, in turns of some hundred pictures, so that what else the machine does hits all
three alike. What an answer is worth is told by the labels, what it cost by the seconds that the
server's workers were busy.

Then budgets are tight: the workers are kept busy by others while the cascade is asked for, with
more and more time. Who gets the first answer, and who the second?

Exits with a message if a figure is not what it must be.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tritonclient.grpc.aio as triton
from loadtests.peers.environment import command_line, described, environment, stolen, stolen_since
from loadtests.peers.peer import ROOT
from loadtests.replaying import PATIENCE, Server, serving
from tritonclient.utils import InferenceServerException

from gearshift.compress.data import fashion_mnist
from gearshift.compress.metrics import paired_difference, wilson

MODEL, CASCADE, BETTER, FIRST = "garment", "pruned-then-teacher", "teacher-int8", "pruned"
TARGETS = (BETTER, CASCADE, FIRST)
CALLERS = 4
TURN = 500
"""Pictures after which the next target has its turn."""
CLOSE = 0.003
"""By how much the cascade may be less accurate than its better variant."""
CHEAP = 1 / 3
"""The share of the better variant's worker seconds that it may take."""
TIMES = (0.5, 1.0, 2.0, 4.0)
"""Tight budgets, in times of what the server says that both runs take (p99)."""
RIVALS = 2
"""Callers who keep the workers busy meanwhile."""
TIGHT = 2_000
"""Pictures for each of them."""


@dataclass(slots=True)
class Found:
    """Of one target, by picture: the answer's class probabilities and how it came about; what
    it took altogether. Seconds; `variants` and `reasons` are empty where there was no answer."""

    outputs: np.ndarray
    variants: list[str]
    reasons: list[str]
    latencies: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    busy: float = 0.0

    @classmethod
    def of(cls, pictures: int) -> Found:
        return cls(np.zeros((pictures, 10), np.float32), [""] * pictures, [""] * pictures)

    def went_on(self) -> int:
        """How many got the second answer."""
        return self.variants.count(BETTER)

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.latencies, share))


class Caller:
    def __init__(self, client: triton.InferenceServerClient, pictures: np.ndarray) -> None:
        self._client = client
        self._pictures = pictures

    async def ask(self, picture: int, found: Found, **parameters: str | float) -> None:
        rows = self._pictures[picture : picture + 1]
        tensor = triton.InferInput("pixels", rows.shape, "UINT8")
        tensor.set_data_from_numpy(rows)
        begun = time.perf_counter()
        try:
            response = await self._client.infer(
                MODEL, [tensor], parameters=parameters, client_timeout=PATIENCE
            )
        except InferenceServerException as error:
            found.refused[str(error.status()).removeprefix("StatusCode.")] += 1
            return
        found.latencies.append(time.perf_counter() - begun)
        told = response.get_response()
        found.outputs[picture] = response.as_numpy(told.outputs[0].name)[0]
        found.variants[picture] = told.parameters["variant"].string_param
        found.reasons[picture] = told.parameters["reason"].string_param

    async def ask_all(
        self,
        pictures: Sequence[int],
        found: Found,
        callers: int = CALLERS,
        **parameters: str | float,
    ) -> None:
        """So many callers, each asks its next one as soon as it has its answer."""
        left = iter(pictures)

        async def one_after_the_other() -> None:
            for picture in left:
                await self.ask(picture, found, **parameters)

        await asyncio.gather(*(one_after_the_other() for _ in range(callers)))


def busy(server: Server) -> float:
    """Worker seconds since the start, those of the express worker included."""
    return sum(s.value for s in server.values("gearshift_worker_busy_seconds_total"))


async def in_turns(server: Server, caller: Caller, pictures: int) -> dict[str, Found]:
    """Every picture to every target."""
    found = {target: Found.of(pictures) for target in TARGETS}
    for turn, begin in enumerate(range(0, pictures, TURN)):
        part = range(begin, min(begin + TURN, pictures))
        for place in range(len(TARGETS)):
            target = TARGETS[(turn + place) % len(TARGETS)]
            before = busy(server)
            await caller.ask_all(part, found[target], variant=target, service_class="archive")
            found[target].busy += busy(server) - before
        print(f"{part.stop} of {pictures} pictures", flush=True)
    return found


def both_take(server: Server) -> float:
    """Seconds that the server expects of one picture's two runs, at most (p99)."""
    named = server.values("gearshift_variant_latency_seconds", model=MODEL, batch="1")
    by_variant = {
        sample.labels["variant"]: sample.value
        for sample in named
        if sample.labels["quantile"] == "0.99"
    }
    return by_variant[FIRST] + by_variant[BETTER]


async def in_haste(
    server: Server, caller: Caller, pictures: Sequence[int], everything: int
) -> dict[float, tuple[float, Found]]:
    """By times of what both runs take: the budget in seconds, and what came of it."""
    found = {}
    both = both_take(server)
    for times in TIMES:
        budget, ours, others = times * both, Found.of(everything), Found.of(everything)
        asked = {"service_class": "archive", "variant": BETTER}
        rival = asyncio.create_task(caller.ask_all(range(everything), others, RIVALS, **asked))
        asked["variant"] = CASCADE
        await caller.ask_all(pictures, ours, latency_budget_ms=1e3 * budget, **asked)
        rival.cancel()
        await asyncio.gather(rival, return_exceptions=True)
        found[times] = budget, ours
        print(f"budget of {1e3 * budget:.1f} ms: done", flush=True)
    return found


# --- the page ---------------------------------------------------------------------------


def right(found: Found, labels: np.ndarray) -> np.ndarray:
    """Which answers name the right class."""
    found_right: np.ndarray = found.outputs.argmax(axis=1) == labels
    return found_right


def page(
    found: dict[str, Found],
    tight: dict[float, tuple[float, Found]],
    labels: np.ndarray,
    taken: str,
) -> Iterator[str]:
    pictures = len(labels)
    yield "# A cascade, served\n"
    yield (
        f"Made by `{command_line('loadtests.cascade')}` on {described(environment())}; the host"
        f" gave {taken} of the cores' time to others, and the load average was"
        f" {os.getloadavg()[2]:.0f}: where that is more than the cores, other work ran beside it,"
        " and times compare with each other only.\n"
    )
    yield (
        f"All {pictures:,} test pictures, one a request, {CALLERS} callers, pinned in turns of"
        f" {TURN}; accuracy by the labels with Wilson's 95 % interval; worker seconds are those of"
        " the cores' workers and the express worker together. The cascade's threshold was learned"
        " on the same pictures; cross-fitted, it is stated with 0.9547 (see"
        " [cascade.md](cascade.md)).\n"
    )
    yield (
        "| pinned to | accuracy | second answers | worker ms a request | share of the teacher's"
        " | p50 ms | p99 ms |"
    )
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for target, each in found.items():
        hits = int(right(each, labels).sum())
        low, high = wilson(hits, pictures)
        on = f"{100 * each.went_on() / pictures:.2f} %" if target == CASCADE else ""
        yield (
            f"| `{target}` | {hits / pictures:.4f} ({low:.4f} to {high:.4f}) | {on}"
            f" | {1e3 * each.busy / pictures:.2f} | {each.busy / found[BETTER].busy:.3f}"
            f" | {1e3 * each.quantile(0.5):.1f} | {1e3 * each.quantile(0.99):.1f} |"
        )
    yield ""
    for other in (BETTER, FIRST):
        value, low, high = paired_difference(
            "top1", labels, found[CASCADE].outputs, found[other].outputs
        )
        yield (
            f"- Cascade minus `{other}`, on the same pictures: {100 * value:+.2f} points"
            f" ({100 * low:+.2f} to {100 * high:+.2f}, paired bootstrap)."
        )
    on = np.array([variant == BETTER for variant in found[CASCADE].variants])
    alone = right(found[FIRST], labels)[on]
    better = right(found[CASCADE], labels)[on]
    yield (
        f"- Of the {on.sum()} pictures that went on, the first variant alone names"
        f" {100 * alone.mean():.0f} % rightly, the second {100 * better.mean():.0f} %."
    )
    yield (
        f"\n## When there is little time\n\n{TIGHT:,} of the pictures to the cascade while {RIVALS}"
        f" other callers keep the workers busy with `{BETTER}`. The class `archive` takes late"
        " answers: with others a pinned cascade is refused at once if the budget is below what both"
        " runs take. Who is not sure and has no time for the second run gets the first answer"
        " (`reason=fallback`).\n"
    )
    yield (
        "| budget, in times of both runs (p99) | budget ms | first is sure | second | fallback"
        " | refused | answers within the budget | p50 ms | accuracy |"
    )
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for times, (budget, each) in tight.items():
        answered = np.array([bool(variant) for variant in each.variants])
        count, back = len(each.latencies), each.reasons.count("fallback")
        in_time = sum(latency <= budget for latency in each.latencies)
        yield (
            f"| {times:g} | {1e3 * budget:.1f} | {count - back - each.went_on()}"
            f" | {each.went_on()} | {back} | {each.refused.total()} | {100 * in_time / count:.1f} %"
            f" | {1e3 * each.quantile(0.5):.1f} | {right(each, labels)[answered].mean():.4f} |"
        )
    yield ""


def check(found: dict[str, Found], labels: np.ndarray) -> None:
    """Teacher's accuracy at a third of its compute, and nobody without an answer."""
    for target, each in found.items():
        if each.refused:
            raise SystemExit(f"{target}: {dict(each.refused)} refused without a tight budget")
    lost = right(found[BETTER], labels).mean() - right(found[CASCADE], labels).mean()
    if lost > CLOSE:
        raise SystemExit(f"the cascade is {lost:.4f} less accurate, more than {CLOSE}")
    share = found[CASCADE].busy / found[BETTER].busy
    if share > CHEAP:
        raise SystemExit(f"the cascade takes {share:.2f} of the teacher's time, above {CHEAP:.2f}")


async def measure(
    server: Server, pictures: np.ndarray
) -> tuple[dict[str, Found], dict[float, tuple[float, Found]]]:
    async with triton.InferenceServerClient(server.grpc) as client:
        caller = Caller(client, pictures)
        found = await in_turns(server, caller, len(pictures))
        some = np.random.default_rng(0).permutation(len(pictures))[:TIGHT].tolist()
        return found, await in_haste(server, caller, some, len(pictures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    _, test = fashion_mnist(ROOT / "build" / "compress", print)
    lost, whole = stolen()
    with serving(ROOT / "model_repo", ROOT / "build" / "state") as server:
        found, tight = asyncio.run(measure(server, test.pixels))
    lines = list(page(found, tight, test.labels, stolen_since(lost, whole)))
    print("\n".join(lines))
    check(found, test.labels)
    (arguments.out / "cascade-served.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
