"""What serving costs: processor and GPU time, energy, money; and what the smaller gears save."""

from __future__ import annotations

from deploy.dashboards.frame import row
from deploy.dashboards.panels import (
    GREEN,
    GREY,
    YELLOW,
    Column,
    Query,
    Scale,
    figure,
    lines,
    rows,
)
from deploy.dashboards.queries import BY_VARIANT, MODEL, POD, RANGE, RATE
from grafana_foundation_sdk.models import dashboard

from deploy.dashboards import frame, queries

CORES = Scale("none", 2, least=0)
MONEY = Scale("none", 4, least=0)
SAVED = Scale("percentunit", 1, ((0.0001, GREEN),), base=GREY)
IN_USE = Scale("percentunit", 0, ((0.9, YELLOW),), least=0, most=1)
WATT = Scale("watt", 1, least=0)
WORKERS = Scale("none", 3, least=0)

GPU = f'{MODEL}, {POD}, device="gpu"'
HERE = f"{MODEL}, {POD}"

# psys holds the packages, and so do their parts but for the memory: each joule once.
ONCE = 'domain=~"package-[0-9]+|package-[0-9]+/dram|dram|gpu-[0-9]+"'

ALL_ANSWERS = 'service_class!=""'
VARIANT = {"model": "Model", "variant": "Variant"}


def _wanted(window: str, by: str = "model") -> str:
    return queries.rate("gearshift_wanted_worker_seconds_total", HERE, by, window)


def _energy(by: str, window: str, of: str = POD) -> str:
    return queries.rate("gearshift_energy_joules_total", of, by, window)


def _now() -> frame.Row:
    saved = f"1 - {queries.busy('', RANGE, HERE)} / ({_wanted(RANGE, '')} > 0)"
    return row(
        "In the time shown",
        5,
        (
            4,
            figure(
                "Money an hour",
                "All CPU time of the servers and GPU time of their workers, at the prices above."
                " What is reserved and idle is not in it.",
                MONEY,
                Query(f"3600 * {queries.money(RANGE)}"),
            ),
        ),
        (
            4,
            figure(
                "Money per thousand answers",
                "The same over all answers.",
                MONEY,
                Query(
                    queries.share(
                        f"1000 * {queries.money(RANGE)}",
                        queries.answers("", RANGE, f"{POD}, {ALL_ANSWERS}"),
                    )
                ),
            ),
        ),
        (
            4,
            figure(
                "Cores in use",
                "CPU seconds a second of all processes.",
                CORES,
                Query(queries.cpu_seconds("", RANGE)),
            ),
        ),
        (
            4,
            figure(
                "GPUs in use",
                "Seconds a second that GPU workers were busy. 0 without a GPU.",
                CORES,
                Query(f"{queries.busy('', RANGE, GPU)} or vector(0)"),
            ),
        ),
        (
            4,
            figure(
                "Power",
                "Of the whole machines, whoever uses them, where they report it; empty where they"
                " do not (most containers may not read it).",
                WATT,
                Query(_energy("", RANGE, f"{POD}, {ONCE}")),
            ),
        ),
        (
            4,
            figure(
                "Worker time saved by smaller gears",
                "Against what the same requests would have cost had each got the best variant that"
                " its budget and floor allow. Negative: more was spent than that.",
                SAVED,
                Query(saved),
            ),
        ),
    )


def _time() -> frame.Row:
    return row(
        "Processor and GPU time",
        9,
        (
            8,
            lines(
                "Cores in use, by pod",
                "All processes of each pod: workers, the front door, metrics.",
                CORES,
                Query(queries.cpu_seconds("instance"), "{{instance}}"),
                stacked=True,
            ),
        ),
        (
            8,
            lines(
                "Workers in use, by device",
                "Share of the workers of each device that were busy. Express runs take the time of"
                " a core that is anyhow awake.",
                IN_USE,
                Query(
                    f"sum by (device) (rate(gearshift_worker_busy_seconds_total{{{POD}}}[{RATE}]))"
                    f" / sum by (device) (gearshift_workers{{{POD}}})",
                    "{{device}}",
                ),
            ),
        ),
        (
            8,
            lines(
                "Worker seconds a second, by device",
                "CPU, express and GPU workers: what the variants themselves take.",
                WORKERS,
                Query(queries.busy("device", RATE, HERE), "{{device}}"),
                stacked=True,
            ),
        ),
        (
            12,
            lines(
                "GPU time by variant",
                "Seconds a second that GPU workers spent on each variant; empty without a GPU.",
                WORKERS,
                Query(queries.busy("model, variant", RATE, GPU), BY_VARIANT),
                stacked=True,
            ),
        ),
        (
            12,
            lines(
                "Money per thousand answers, by model",
                "By model: worker time at the prices above. All: with what the servers themselves"
                " take (network, decisions, metrics).",
                MONEY,
                Query(
                    queries.share(
                        f"1000 * {queries.worker_money('model', RATE, HERE)}",
                        queries.answers("model", RATE, HERE),
                    ),
                    "{{model}}",
                ),
                Query(
                    queries.share(
                        f"1000 * {queries.money()}",
                        queries.answers("", RATE, f"{POD}, {ALL_ANSWERS}"),
                    ),
                    "all",
                ),
            ),
        ),
    )


def _by_variant() -> frame.Row:
    by = "model, variant"
    batch_rows = queries.rate("gearshift_batch_size_sum", HERE, by, RANGE)
    answers = queries.answers(by, RANGE, HERE)
    busy = queries.busy(by, RANGE, HERE)
    return row(
        "By variant",
        10,
        (
            14,
            rows(
                "What each variant costs",
                "Over the time shown. Per thousand answers of that variant; in a cascade the first"
                " variant's time for rows that went on is with the first.",
                VARIANT,
                [
                    Column("Answers a second", answers, Scale("reqps", 1)),
                    Column("Workers", busy, WORKERS),
                    Column("A row", queries.share(busy, batch_rows), Scale("s", 2)),
                    Column(
                        "Money an hour",
                        f"3600 * {queries.worker_money(by, RANGE, HERE)}",
                        MONEY,
                    ),
                    Column(
                        "Money per thousand answers",
                        queries.share(f"1000 * {queries.worker_money(by, RANGE, HERE)}", answers),
                        Scale("none", 5),
                    ),
                    Column(
                        "Accuracy",
                        "max by (model, variant)"
                        f' (gearshift_variant_accuracy{{{HERE}, source!="live"}})',
                        Scale("none", 4),
                    ),
                ],
                sort="Workers",
            ),
        ),
        (
            10,
            lines(
                "Money an hour, by variant",
                "Worker time at the prices above.",
                MONEY,
                Query(f"3600 * {queries.worker_money(by, RATE, HERE)}", BY_VARIANT),
                stacked=True,
            ),
        ),
    )


def _saved() -> frame.Row:
    saved = f"1 - {queries.busy('model', RATE, HERE)} / ({_wanted(RATE)} > 0)"
    # Money of what was wanted: at the mean price of what was used, by model.
    price = queries.share(
        queries.worker_money("model", RANGE, HERE), queries.busy("model", RANGE, HERE)
    )
    return row(
        "What the smaller gears save",
        9,
        (
            12,
            lines(
                "Workers: used, wanted, and on the best variant alone",
                "Used: what the variants took. Wanted: had each request got the best variant that"
                " its budget and floor allow, whatever the load, refused ones included. Best: had"
                " every row run on the model's most accurate variant, whether in time or not (rows"
                " that a cascade ran twice count twice).",
                WORKERS,
                Query(queries.busy("model", RATE, HERE), "{{model}}, used"),
                Query(_wanted(RATE), "{{model}}, wanted"),
                Query(queries.on_the_best(), "{{model}}, best"),
            ),
        ),
        (
            6,
            lines(
                "Saved against what was wanted",
                "Share of the worker time. Rises with load: that is the shifting down, and the load"
                " deficit says what it costs in accuracy.",
                SAVED,
                Query(saved, "{{model}}"),
            ),
        ),
        (
            6,
            rows(
                "Money saved an hour",
                "At the mean price of the worker time that each model used.",
                {"model": "Model"},
                [
                    Column(
                        "Against wanted",
                        f"3600 * ({_wanted(RANGE)} - {queries.busy('model', RANGE, HERE)})"
                        f" * ({price})",
                        MONEY,
                    ),
                    Column(
                        "Against the best",
                        f"3600 * ({queries.on_the_best(RANGE)}"
                        f" - {queries.busy('model', RANGE, HERE)}) * ({price})",
                        MONEY,
                    ),
                ],
                sort="Against the best",
            ),
        ),
    )


def _energies() -> frame.Row:
    answers = queries.answers("", RATE, f"{POD}, {ALL_ANSWERS}")
    return row(
        "Energy, where machines report it",
        8,
        (
            12,
            lines(
                "Power by domain",
                "RAPL's packages with their parts, and GPUs: of the whole machine, whoever uses it."
                " Empty where the counters cannot be read.",
                WATT,
                Query(_energy("domain", RATE), "{{domain}}"),
            ),
        ),
        (
            12,
            lines(
                "Energy per thousand answers",
                "Of packages, memory and GPUs, each joule once: right where the machine does little"
                " beside.",
                Scale("joule", 1, least=0),
                Query(
                    queries.share(f"1000 * {_energy('', RATE, f'{POD}, {ONCE}')}", answers),
                    "all answers",
                ),
            ),
        ),
    )


def made() -> dashboard.Dashboard:
    return frame.composed(
        uid="gearshift-cost",
        title="gearshift: cost",
        description="Processor and GPU time, energy and money, and what the smaller gears save.",
        rows=[_now(), _by_variant(), _saved(), _time(), _energies()],
        variables=[frame.model(), frame.instance(), *frame.prices()],
        since="now-6h",
    )
