"""docs/results/peers.md from what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loadtests.peers import curves
from loadtests.peers.environment import described
from loadtests.peers.records import Results, Spread, spread

MODELS = ("tiny", "mid", "big")
CALLERS = (1, 8, 64)
BUSY = (8, 64)
OURS = "gearshift"

INTRODUCTION = """\
# Beside other servers: throughput, latency, cost

Made by `{command}` (interleaved rounds: {rounds}, every round in another order) on \
{environment}. {stolen} of the cores' time went to others. Client and servers share the cores; \
all servers are up at once, and use what is below while nothing asks; memory is of each alone, \
once every model was asked. Figures of different days \
do not compare: the machine's speed varies.

The models are made by `loadtests/peers/models.py` with random weights: **tiny** is an MLP \
30-64-32-1, **mid** a convolutional net of about 1.3 ms a row, **big** ResNet-50's layout at \
128 x 128, about 30 ms. Every server runs the same files in the same ONNX Runtime with one \
thread to a run, has one variant a model, and is not tuned. Requests are of one row. The client \
(`loadtests/peers/client`, C on nghttp2) checks status and values of every answer.
"""

SERVERS = """\
How each is set up: `plain gRPC` is `plain_server.py`, a handler that runs the model where the \
call arrives, without queue, batching, routing or metrics. Triton is the binary of PyPI's \
nvidia-pytriton (C++ front end) with dynamic batching and two instances a model of its Python \
backend, which calls ONNX Runtime: the binary comes without Triton's ONNX Runtime backend. KServe \
is two of its processes on one port, its line a request silenced. MLServer runs a custom runtime \
in two workers. Their versions are pinned in `loadtests/peers/requirements`.
"""


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"


def with_range(found: Spread | None, text: str = "{:.2f}") -> str:
    if found is None:
        return "-"
    told = (text.format(value) for value in (found.median, found.least, found.most))
    return "{} ({} to {})".format(*told)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def best_rate(results: Results, server: str, model: str) -> str:
    """The median over rounds at the number of callers whose median is highest."""
    medians = [
        found.median
        for callers in CALLERS
        if (found := spread(cell.rate for cell in results.cells(server, model, callers)))
    ]
    return number(max(medians)) if medians else "-"


def overview(results: Results) -> str:
    rows = []
    for name in results.present():
        server = results.servers[name]
        cost = spread(cell.cpu_us for cell in results.cells(name, "tiny", 64))
        rows.append(
            [
                server.title,
                *(best_rate(results, name, model) for model in MODELS),
                number(server.memory_mb),
                number(cost.median) if cost else "-",
                f"{server.idle_percent:.1f} %",
            ]
        )
    alone = (spread(results.alone.get(model, [])) for model in MODELS)
    most = [number(found.median) if found else "-" for found in alone]
    rows.append(["ONNX Runtime alone, rows/s, best batch", *most, "-", "-", "-"])
    head = ["server", *MODELS, "memory (PSS), MB", "server CPU, us/request, tiny at 64"]
    return table([*head, "CPU while idle, of one core"], rows)


def ratios(results: Results) -> str:
    rows = [
        [
            f"gearshift / {results.servers[name].title}",
            *(with_range(results.ratio(OURS, name, model, BUSY)) for model in MODELS),
        ]
        for name in results.present()
        if name != OURS
    ]
    alone = (with_range(results.of_alone(OURS, model, BUSY)) for model in MODELS[1:])
    # Of tiny it computes millions: there the door is what costs, not the model.
    rows.append(["gearshift / ONNX Runtime alone", "-", *alone])
    return table(["ratio of requests/s", *MODELS], rows)


def details(results: Results, model: str) -> str:
    rows = []
    for name in results.present():
        row = [results.servers[name].title]
        for callers in CALLERS:
            cells = results.cells(name, model, callers)
            rate = spread(cell.rate for cell in cells)
            middle = spread(cell.p50_ms for cell in cells)
            tail = spread(cell.p99_ms for cell in cells)
            cost = spread(cell.cpu_us for cell in cells)
            if rate is None or middle is None or tail is None or cost is None:
                row += ["-"] * 3
                continue
            bad = sum(cell.failed + cell.wrong for cell in cells)
            note = f", **{bad} failed or wrong**" if bad else ""
            row += [
                f"{number(rate.median)} ({number(rate.least)} to {number(rate.most)}){note}",
                f"{number(middle.median)} / {number(tail.median)}",
                number(cost.median),
            ]
        rows.append(row)
    head = ["server"]
    for callers in CALLERS:
        title = f"{callers} caller" + ("s" if callers > 1 else "")
        head += [f"{title}: requests/s", "p50 / p99 ms", "server CPU us"]
    return table(head, rows)


def under_poisson(results: Results, model: str) -> list[str]:
    found = {(c.server, c.offered): c for c in results.open if c.model == model}
    if not found:
        return []
    rates = sorted({offered for _, offered in found})
    deadline = next(cell.deadline_ms for cell in found.values())
    rows = []
    for name in results.present():
        cells = [found.get((name, rate)) for rate in rates]
        told = (f"{100 * c.in_time:.1f} % / {number(c.p99_ms)}" if c else "-" for c in cells)
        rows.append([results.servers[name].title, *told])
    return [
        f"Poisson arrivals, each with a gRPC deadline of {deadline:g} ms from its moment: share"
        " answered in time / p99 of what was answered, ms. One run a figure; a server below 5 %"
        " was not asked at higher rates.\n",
        table(["server", *(f"{number(rate)}/s" for rate in rates)], rows),
    ]


def rendered(results: Results) -> str:
    told = INTRODUCTION.format(
        command=results.command,
        rounds=results.rounds,
        environment=described(results.environment),
        stolen=results.environment.get("stolen", "An unknown share"),
    )
    parts = [
        told,
        "Best requests a second over 1, 8 and 64 callers in a closed loop, each the median of"
        " the rounds:\n",
        overview(results),
        "The better of 8 and 64 callers, round by round: median (least to most).\n",
        ratios(results),
        SERVERS,
    ]
    parts += [f"{s.title} is absent: {s.absent}.\n" for s in results.servers.values() if s.absent]
    parts += [
        f"{results.servers[name].title} crashed or hung ({count}x) under Poisson arrivals (calls"
        " are cancelled at their deadline, as stock clients do) and was started anew.\n"
        for name, count in results.ended.items()
    ]
    for model in dict.fromkeys(cell.model for cell in results.closed):
        parts += [
            f"## {model}\n",
            "Closed loop, median (least to most) of the rounds; each caller asks again as soon as"
            " it is answered.\n",
            details(results, model),
        ]
        parts += under_poisson(results, model)
    if results.open:
        lag = max(cell.lag_p99_ms for cell in results.open)
        parts += [
            "## Latency and throughput\n",
            "![Latency and share in time over the offered rate](peers.png)\n",
            f"The client's p99 lag in sending was at most {lag:.2f} ms.\n",
        ]
    parts += [
        "## The client\n",
        "Against a server that answers with fixed bytes (`client/empty_server.c`), on the same"
        " cores:\n",
        table(
            ["callers", "requests/s", "client CPU, us/request"],
            [[str(n), number(rate), number(cpu)] for n, (rate, cpu) in results.ceiling.items()],
        ),
    ]
    return "\n".join(parts)


def write(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "peers.md").write_text(rendered(results))
    curves.draw(results, folder / "peers.png")
