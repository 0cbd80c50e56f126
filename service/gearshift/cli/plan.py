"""`gearshift plan`: how many pods of which kind hold the goals, and what they cost."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from gearshift.app.settings import load_settings
from gearshift.cli.options import Config, Repository, StateDir
from gearshift.cli.running import ProgressBar, configure_logs, failing_clearly, progress_bar, run
from gearshift.errors import ConfigurationInvalid

if TYPE_CHECKING:
    from gearshift.app.capacity import Past
    from gearshift.simulate.planning.answer import Answer
    from gearshift.simulate.planning.goals import Wish
    from gearshift.simulate.planning.inputs import Inputs
    from gearshift.simulate.report import Grid

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
ATTAINMENT = "0.999"
"""Of every class, where nothing else is asked for."""

TEXT = {"for", "goal", "kind", "model", "resident", "why", "pods"}
"""Headings of columns that are not numbers."""

out = Console()
if not out.is_terminal:
    # In a file or a pipe a table may be as wide as it needs to be.
    out = Console(width=140)


def plan(
    kinds: Annotated[
        Path,
        typer.Option(
            help="CSV: `name,device,workers,memory_mb,price_per_hour` and, if wanted,"
            " `cpus,gpus,start_seconds,hardware`; one line for each kind of pod.",
        ),
    ],
    workload: Annotated[
        Path | None,
        typer.Option(
            help="The requests to plan for, as `gearshift simulate` takes them.",
            show_default=False,
        ),
    ] = None,
    prometheus: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Or else the Prometheus that has recorded them, such as http://localhost:9090.",
            show_default=False,
        ),
    ] = None,
    profiles: Annotated[
        Path | None,
        typer.Option(
            help="Profiles as `gearshift simulate` takes them, with a column `memory_mb` if wanted."
            " Without them the repository's are taken, measured here or kept in the state dir.",
            show_default=False,
        ),
    ] = None,
    repository: Repository = None,
    state_dir: StateDir = None,
    attainment: Annotated[
        list[str] | None,
        typer.Option(
            help="Share of the requests that must be answered in time: 0.999 for every class,"
            " fraud=0.999 for a model, fraud/realtime=0.999 for one of its classes; may be given"
            f" several times.  [default: {ATTAINMENT}]",
            show_default=False,
        ),
    ] = None,
    accuracy: Annotated[
        list[str] | None,
        typer.Option(
            help="The least mean accuracy of the answers in time, given like --attainment.",
            show_default=False,
        ),
    ] = None,
    effective_accuracy: Annotated[
        list[str] | None,
        typer.Option(
            help="The same over all requests, one that is not answered in time counting as 0.",
            show_default=False,
        ),
    ] = None,
    spare: Annotated[
        int, typer.Option(help="Pods of each fleet that may be gone while the goals hold.")
    ] = 0,
    load: Annotated[
        float, typer.Option(help="Plan for so many times the requests: 1.3 for 30 % more.")
    ] = 1.0,
    together: Annotated[
        bool, typer.Option("--together", help="All models on the same pods.")
    ] = False,
    most: Annotated[int, typer.Option(help="The most pods of a fleet that are tried.")] = 200,
    seeds: Annotated[int, typer.Option(help="Simulations of each number of pods.")] = 3,
    requests: Annotated[
        int, typer.Option(help="About so many requests in each of them; more are surer, slower.")
    ] = 10_000,
    noise: Annotated[
        float, typer.Option(help="Coefficient of variation of the true service times.")
    ] = 0.1,
    request_us: Annotated[
        float,
        typer.Option(help="Microseconds of a core for receiving and answering one request."),
    ] = 95.0,
    server_mb: Annotated[
        float, typer.Option(help="Megabytes that the server takes beside its variants.")
    ] = 100.0,
    window: Annotated[
        str, typer.Option(help="With --prometheus: requests are averaged over such a time.")
    ] = "5m",
    over: Annotated[
        str, typer.Option(help="With --prometheus: how far back it looks, as in 12h or 14d.")
    ] = "7d",
    quantile: Annotated[
        float,
        typer.Option(
            help="With --prometheus: 1 plans for the busiest window, 0.99 for one that"
            " one in a hundred exceeds."
        ),
    ] = 1.0,
    select: Annotated[
        str,
        typer.Option(
            help='With --prometheus: more label matchers, as in `namespace="prod"`.',
            show_default=False,
        ),
    ] = "",
    timeout: Annotated[
        float, typer.Option(help="With --prometheus: seconds that its answer may take.")
    ] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    as_values: Annotated[
        bool, typer.Option("--values", help="Print values for the Helm chart, and nothing else.")
    ] = False,
    config: Config = None,
) -> None:
    """How many pods of which kind hold the goals, with which variants, and at what cost.

    What no scheduler could do is excluded by a bound; everything else is simulated with the
    scheduler that serves, so is the answer, and so is one pod less, which fails. Each model goes
    where it is cheapest. The guide is docs/capacity.md.

    Example: `gearshift plan --workload w.csv --profiles p.csv --kinds kinds.csv --spare 1`

    Exit code 1 if a file or an option is wrong, or if nothing holds the goals: it is said why, and
    what would work.
    """
    with failing_clearly():
        _check_options(
            workload,
            prometheus,
            profiles,
            spare,
            load,
            most,
            seeds,
            requests,
            noise,
            request_us,
            server_mb,
            quantile,
            timeout,
            both=as_json and as_values,
        )
        from gearshift.simulate.planning.answer import to_json, work_out
        from gearshift.simulate.planning.trial import Conditions
        from gearshift.simulate.planning.values import values

        wishes = _wishes(attainment, accuracy, effective_accuracy)
        wanted = (
            workload
            if workload is not None
            else _past(prometheus or "", window, over, quantile, timeout, select)
        )
        with progress_bar() as on_progress:
            inputs = _inputs(
                kinds, wanted, profiles, repository, state_dir, config, server_mb, load, on_progress
            )
            answer = work_out(
                inputs,
                wishes,
                Conditions(noise=noise, seeds=seeds, requests=requests, door=request_us / 1e6),
                spare=spare,
                together=together,
                most=most,
                on_progress=on_progress,
            )
    if as_json:
        print(json.dumps(to_json(answer), indent=2))  # noqa: T201 - for programs
    elif as_values and answer.plan.fleets:
        print(values(answer), end="")  # noqa: T201 - for Helm
    else:
        _show(answer)
    if not answer.plan.fleets:
        raise typer.Exit(1)


def _wishes(
    attainment: list[str] | None, accuracy: list[str] | None, effective: list[str] | None
) -> list[Wish]:
    from gearshift.simulate.mistakes import Mistakes
    from gearshift.simulate.planning.goals import Measure, parse_wishes

    mistakes = Mistakes()
    found = [
        *parse_wishes(Measure.ATTAINMENT, attainment or [ATTAINMENT], mistakes),
        *parse_wishes(Measure.SERVED, accuracy or [], mistakes),
        *parse_wishes(Measure.EFFECTIVE, effective or [], mistakes),
    ]
    mistakes.raise_if_any()
    return found


def _inputs(
    kinds: Path,
    wanted: Path | Past,
    profiles: Path | None,
    repository: Path | None,
    state_dir: Path | None,
    config: Path | None,
    server: float,
    load: float,
    on_progress: ProgressBar,
) -> Inputs:
    from gearshift.app import capacity
    from gearshift.simulate.planning.inputs import from_files

    if profiles is not None and isinstance(wanted, Path):
        return from_files(profiles, wanted, kinds, capacity.place_express, server, load)
    settings = load_settings(config, repository=repository, state_dir=state_dir)
    configure_logs(settings.model_copy(update={"log_level": "warning"}))
    return run(
        lambda: capacity.from_repository(
            settings, kinds, wanted, server=server, load=load, on_progress=on_progress
        )
    )


def _past(url: str, window: str, over: str, quantile: float, timeout: float, selector: str) -> Past:
    from gearshift.app.capacity import Past

    return Past(
        url=url,
        window=_seconds("--window", window),
        over=_seconds("--over", over),
        quantile=quantile,
        timeout=timeout,
        selector=selector,
    )


def _seconds(option: str, text: str) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhdw])", text.strip())
    if not found or not float(found[1]):
        raise ConfigurationInvalid(
            f"{option} {text}: is not a time; write a number and one of s, m, h, d, w, as in 5m"
        )
    return float(found[1]) * UNITS[found[2]]


def _check_options(
    workload: Path | None,
    prometheus: str | None,
    profiles: Path | None,
    spare: int,
    load: float,
    most: int,
    seeds: int,
    requests: int,
    noise: float,
    request_us: float,
    server_mb: float,
    quantile: float,
    timeout: float,
    *,
    both: bool,
) -> None:
    if (workload is None) == (prometheus is None):
        raise ConfigurationInvalid("give either --workload or --prometheus, not both or neither")
    if prometheus is not None and profiles is not None:
        raise ConfigurationInvalid(
            "--profiles say nothing of budgets: with --prometheus give the --repository"
        )
    if both:
        raise ConfigurationInvalid("give --json or --values, not both")
    ranges: tuple[tuple[str, float, float, float], ...] = (
        ("--spare", spare, 0, 1_000),
        ("--load", load, 1e-3, 1e3),
        ("--most", most, 1, 100_000),
        ("--seeds", seeds, 1, 1_000),
        ("--requests", requests, 100, 100_000_000),
        ("--noise", noise, 0, 10),
        ("--request-us", request_us, 0, 1e6),
        ("--server-mb", server_mb, 0, 1e6),
        ("--quantile", quantile, 1e-6, 1),
        ("--timeout", timeout, 0.1, 3_600),
    )
    for option, value, least, most_ in ranges:
        if not (math.isfinite(value) and least <= value <= most_):
            raise ConfigurationInvalid(
                f"{option} {value:g}: give a number from {least:g} to {most_:g}"
            )


def _show(answer: Answer) -> None:
    from gearshift.simulate.planning.report import plan_grids, sentences

    for grid in plan_grids(answer):
        out.print(_table(grid))
    for sentence in sentences(answer):
        out.print(sentence, highlight=False, markup=False, soft_wrap=True)


def _table(grid: Grid) -> Table:
    table = Table(title=grid.title)
    for heading in grid.headings:
        table.add_column(heading, justify="left" if heading in TEXT else "right")
    for row in grid.rows:
        table.add_row(*row)
    return table
