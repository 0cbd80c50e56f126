"""`gearshift simulate`: a workload file through a policy in virtual time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from gearshift.errors import ConfigurationInvalid, GearshiftError
from gearshift.simulate.bounds.result import Bound
from gearshift.simulate.compare import Comparison, OnProgress, compare
from gearshift.simulate.extra import need
from gearshift.simulate.policies import POLICIES
from gearshift.simulate.policies.resident import RESIDENT
from gearshift.simulate.publish import published, result_paths
from gearshift.simulate.report import accuracy_text, grids, percent
from gearshift.simulate.result import Figures, Result
from gearshift.simulate.scenario import load_scenario
from gearshift.simulate.writing import check_writable, write_files

FIGURES = (
    *("requests", "in time %", "late", "shed", "infeasible", "expired"),
    *("accuracy", "effective"),
)
"""Headings of the summary: `accuracy` of what was in time, `effective` over all requests."""

BOUND_STEP = 100.0

err = Console(stderr=True)
out = Console()
if not out.is_terminal:
    # In a file or a pipe a table may be as wide as it needs to be.
    out = Console(width=120)


def simulate(
    profiles: Annotated[
        Path,
        typer.Option(
            help="CSV: `model,variant,accuracy,device,batch,p50_ms,p99_ms`, one line for each"
            " measured batch size; times are for the whole batch, accuracies on any scale.",
        ),
    ],
    workload: Annotated[
        Path,
        typer.Option(
            help="CSV: `arrival_ms,model,budget_ms,min_accuracy` and, if wanted,"
            " `service_class`; one line a request, sorted by arrival; an empty min_accuracy is"
            " no floor.",
        ),
    ],
    workers: Annotated[
        str,
        typer.Option(
            help="How many workers of which device, such as `cpu=20,gpu=10`; a variant runs on"
            " the devices that its profile lists.",
        ),
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="gearshift (the core exactly as served), or a baseline: most-accurate, fastest,"
            " infaas, slackfit, proteus, proteus-1s; with --memory accurate-first,"
            " smallest-first. With --compare it may be given several"
            " times.  [default: gearshift; with --compare all of them]",
            show_default=False,
        ),
    ] = None,
    speed_up: Annotated[
        list[float] | None,
        typer.Option(
            help="Divide arrival times by this and keep the budgets: 2 is twice the load. With"
            " --compare it may be given several times.  [default: 1]",
            show_default=False,
        ),
    ] = None,
    memory: Annotated[
        str,
        typer.Option(
            help="How many megabytes of variants a device holds, such as `gpu=16000`; the profiles"
            " then have a column `memory_mb`. A device that is not named holds all.",
        ),
    ] = "",
    loading: Annotated[
        float, typer.Option(help="With --memory: megabytes that a device loads in a second.")
    ] = 1000.0,
    noise: Annotated[
        float,
        typer.Option(
            help="Coefficient of variation of the true service times (lognormal around p50):"
            " 0.05 is a quiet machine, 0 none at all.",
        ),
    ] = 0.0,
    seed: Annotated[
        int, typer.Option(help="Of the noise. The same seed gives the same result.")
    ] = 0,
    on_time_bonus: Annotated[
        float,
        typer.Option(
            help="The server's setting of that name, for the policy gearshift: what an answer in"
            " time is worth beside its accuracy, as a share of the best."
        ),
    ] = 0.0,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Write everything that was counted into this file."
        ),
    ] = None,
    bound: Annotated[
        bool | None,
        typer.Option(
            "--bound/--no-bound",
            help="Also compute how well any policy could possibly do (a linear program; needs"
            " the extra `simulate`).  [default: only with --compare]",
            show_default=False,
        ),
    ] = None,
    bound_step: Annotated[
        float,
        typer.Option(help="Milliseconds a step of that program; fewer are tighter and slower."),
    ] = BOUND_STEP,
    compare_all: Annotated[
        bool,
        typer.Option(
            "--compare", help="Run every policy, and write a table and a picture into --out."
        ),
    ] = False,
    seeds: Annotated[
        int,
        typer.Option(help="With --compare: this many seeds, from --seed on; cells are means."),
    ] = 1,
    out_folder: Annotated[
        Path, typer.Option("--out", help="With --compare: the folder for table and picture.")
    ] = Path("docs/results"),
) -> None:
    """Replay a workload in virtual time, and show what the scheduler makes of it.

    What `gearshift` does here is what the server does: it is the same code. Hours of traffic
    take seconds, nothing is loaded and nothing is sent. Ask what next month's traffic would
    do (`--speed-up 3`), what half the workers would, or how much any better scheduler could
    still win (`--bound`).

    Example: `gearshift simulate --profiles p.csv --workload w.csv --workers cpu=2 --noise 0.05`

    Exit code 1 if a file or an option is wrong; the message names file, line and column.
    """
    names = policy or (list(RESIDENT if memory else POLICIES) if compare_all else ["gearshift"])
    loads = speed_up or [1.0]
    try:
        _check(names, loads, seeds, compare_all)
        _check_number("--noise", noise, 0, 10)
        _check_number("--bound-step", bound_step, 1, 60_000)
        _check_number("--on-time-bonus", on_time_bonus, 0, 1000)
        _check_number("--seed", seed, 0, 2**63)
        _check_number("--loading", loading, 1e-3, 1e9)
        for load in loads:
            _check_number("--speed-up", load, 1e-3, 1e3)
        if json_file is not None:
            check_writable(json_file, "--json")
        paths = None
        if compare_all:
            need("matplotlib", "--compare")
            paths = result_paths(out_folder, workload, "-memory" if memory else "")
        scenario = load_scenario(profiles, workload, workers, memory, loading)
        scale = max(model.best_accuracy for model in scenario.catalog.models.values())
        with _progress() as on_progress:
            comparison = compare(
                scenario,
                names,
                speed_ups=loads,
                seeds=range(seed, seed + seeds),
                noise=noise,
                bound_step=bound_step / 1e3 if (compare_all if bound is None else bound) else None,
                on_progress=on_progress,
                on_time_bonus=on_time_bonus,
            )
        files: dict[Path, bytes] = {}
        if paths is not None:
            command = _command(profiles, workload, workers, policy, loads, noise, seed, seeds)
            if on_time_bonus:
                command += ["--on-time-bonus", f"{on_time_bonus:g}"]
            if memory:
                command += ["--memory", memory, "--loading", f"{loading:g}"]
            if bound_step != BOUND_STEP:
                command += ["--bound-step", f"{bound_step:g}"]
            files |= published(comparison, *paths, scale, command)
        if json_file is not None:
            counted = comparison.to_json() if compare_all else _single_json(comparison)
            files[json_file] = (json.dumps(counted, indent=2) + "\n").encode()
        write_files(files)
    except GearshiftError as error:
        err.print(f"gearshift: {error}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    if compare_all:
        _show_comparison(comparison, scale)
    else:
        _show_result(comparison.results[0], next(iter(comparison.bounds.values()), None), scale)
    for path in files:
        out.print(f"written: {path}", highlight=False, markup=False, soft_wrap=True)


def _check(names: Sequence[str], loads: Sequence[float], seeds: int, compare_all: bool) -> None:
    _check_number("--seeds", seeds, 1, 1000)
    for option, values in (("--policy", names), ("--speed-up", loads), ("--seeds", range(seeds))):
        if len(values) > 1 and not compare_all:
            raise ConfigurationInvalid(f"{option}: more than one needs --compare")
        if len(set(values)) < len(values):
            raise ConfigurationInvalid(f"{option}: the same value twice; give each once")


def _check_number(option: str, value: float, least: float, most: float) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        raise ConfigurationInvalid(f"{option} {value:g}: give a number from {least:g} to {most:g}")


def _command(
    profiles: Path,
    workload: Path,
    workers: str,
    names: Sequence[str] | None,
    loads: Sequence[float],
    noise: float,
    seed: int,
    seeds: int,
) -> list[str]:
    """What to type for the same comparison; an absolute path says only its last part."""
    files = [path.name if path.is_absolute() else str(path) for path in (profiles, workload)]
    return [
        *("gearshift", "simulate", "--profiles", files[0], "--workload", files[1]),
        *("--workers", workers),
        *(part for name in names or () for part in ("--policy", name)),
        *(part for load in loads for part in ("--speed-up", f"{load:g}")),
        *("--noise", f"{noise:g}", "--seed", str(seed), "--seeds", str(seeds), "--compare"),
    ]


def _single_json(comparison: Comparison) -> dict[str, Any]:
    counted = comparison.results[0].to_json()
    for bound in comparison.bounds.values():
        counted["bound"] = asdict(bound)
    return counted


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A bar on stderr; silent where stderr is no terminal."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total
        )


def _show_result(result: Result, bound: Bound | None, scale: float) -> None:
    conditions = result.conditions
    table = Table(
        title=f"{conditions.policy} on {result.files['workload']['name']}"
        f" at {conditions.speed_up:g}x, noise {conditions.noise:g}, seed {conditions.seed}"
    )
    table.add_column("")
    for heading in FIGURES:
        table.add_column(heading, justify="right")
    table.add_row("all", *_cells(result.total, scale), end_section=True)
    for groups in (result.per_model, result.per_class):
        for number, (name, figures) in enumerate(groups.items(), start=1):
            table.add_row(name, *_cells(figures, scale), end_section=number == len(groups))
    out.print(table)
    busy = ", ".join(
        f"{device} {percent(share)} %" for device, share in result.utilisation_per_device.items()
    )
    times = result.decision_us
    lines = [
        f"workers busy: {percent(result.total.utilisation)} % ({busy})",
        f"one decision: {times.p50:.1f} us p50, {times.p99:.1f} us p99",
    ]
    if bound is not None:
        share = result.total.effective_accuracy / (bound.effective_accuracy or math.inf)
        lines.append(
            f"no policy can exceed {accuracy_text(bound.effective_accuracy, scale)}:"
            f" this is {percent(share)} % of it"
        )
    for line in lines:
        out.print(line, highlight=False, soft_wrap=True)


def _cells(figures: Figures, scale: float) -> list[str]:
    counts = (figures.late, figures.shed, figures.infeasible, figures.expired)
    return [
        str(figures.requests),
        percent(figures.attainment),
        *map(str, counts),
        accuracy_text(figures.mean_served_accuracy, scale),
        accuracy_text(figures.effective_accuracy, scale),
    ]


def _show_comparison(comparison: Comparison, scale: float) -> None:
    for grid in grids(comparison, scale):
        table = Table(title=grid.title)
        for heading in grid.headings:
            table.add_column(heading, justify="left" if heading in ("policy", "class") else "right")
        for row in grid.rows:
            table.add_row(*row)
        out.print(table)
