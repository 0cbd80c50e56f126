"""The commands: options in, one call into `app`, a table or one clear line out.

Exit codes: 0 done, 1 something is wrong and stderr says what, 2 the command line itself.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from gearshift import __version__
from gearshift.app.settings import Settings, load_settings
from gearshift.cli.cascade import cascade
from gearshift.cli.explain import explain
from gearshift.cli.health import health
from gearshift.cli.options import Config, Provider, Repository, StateDir, Workers
from gearshift.cli.plan import plan
from gearshift.cli.process import COMMAND, serve_process
from gearshift.cli.running import configure_logs, failing_clearly, progress_bar, run
from gearshift.cli.serve import serve
from gearshift.cli.simulate import simulate
from gearshift.cli.study import study
from gearshift.cli.tables import models_table, profiles_table
from gearshift.cli.token import token
from gearshift.cli.top import top

app = typer.Typer(
    name="gearshift",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Serve every request from the **most accurate model variant that its latency budget"
    " allows**.\n\nStart with `gearshift demo`, then `gearshift serve --repository model_repo`."
    "\n\nEvery option can also be set as `GEARSHIFT_<NAME>` in the environment or as a key in"
    " the TOML file that `--config` names; the command line wins.",
)

out = Console()


@app.command()
def check(
    repository: Repository = None,
    config: Config = None,
) -> None:
    """Check a repository: every mistake at once, with its file and key.

    Nothing is served and nothing is measured. Exit code 0: it would load; 1: it would not.
    """
    with failing_clearly():
        settings = load_settings(config, repository=repository)
        configure_logs(settings)
        from gearshift.app import parts
        from gearshift.errors import Problem

        executors = parts.make_executors(settings)
        notes: list[Problem] = []
        try:
            catalog = parts.load_catalog(settings, executors, notes=notes)
        finally:
            for note in notes:
                out.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
        variants = sum(len(model.variants) for model in catalog.models.values())
        cascades = sum(len(model.cascades) for model in catalog.models.values())
        out.print(
            f"{settings.repository}: {len(catalog.models)} model(s) with {variants} variants and"
            f" {cascades} cascades, no mistakes",
            highlight=False,
        )


@app.command()
def profile(
    repository: Repository = None,
    workers: Workers = None,
    state_dir: StateDir = None,
    provider: Provider = None,
    config: Config = None,
) -> None:
    """Measure how fast every variant is on this machine, and print the table.

    The figures include the way to the worker and back, because a request waits for that
    too. They replace what was kept from an earlier run.
    """
    with failing_clearly():
        settings = load_settings(
            config,
            repository=repository,
            workers=workers,
            state_dir=state_dir,
            providers=provider,
        )
        configure_logs(settings)
        out.print(profiles_table(*_measured(settings, refresh=True)))


@app.command()
def models(
    repository: Repository = None,
    state_dir: StateDir = None,
    provider: Provider = None,
    config: Config = None,
) -> None:
    """List every variant: its accuracy with the interval, its p99 for one row, its size.

    Latency is what was kept from an earlier start or `gearshift profile`; what was never
    measured on this machine is measured now.
    """
    with failing_clearly():
        settings = load_settings(
            config, repository=repository, state_dir=state_dir, providers=provider
        )
        configure_logs(settings)
        out.print(models_table(*_measured(settings, refresh=False)))


@app.command()
def demo(
    repository: Repository = None,
    state_dir: StateDir = None,
    workers: Workers = None,
    config: Config = None,
) -> None:
    """Start a server, send it real traffic through a stock client, and show what happened.

    Fraud checks, tumour readings and images of clothes at several budgets and floors, then
    a short overload; afterwards what was routed where and why, and what /metrics says.
    Exit code 0 only if every request is accounted for.
    """
    with failing_clearly():
        settings = load_settings(
            config, repository=repository, state_dir=state_dir, workers=workers
        )
        from gearshift.cli.demo import run_demo

        if not run_demo(settings, out):
            raise typer.Exit(1)


@app.command()
def compress(
    recipes: Annotated[
        list[Path], typer.Argument(help="Recipe files (TOML), such as model_repo/*/recipe.toml.")
    ],
    repository: Repository = None,
    cache: Annotated[
        Path, typer.Option(help="Where downloads and finished steps are kept.")
    ] = Path("build/compress"),
    results: Annotated[
        Path | None,
        typer.Option(help="Folder for a report (table and picture) with latencies measured here."),
    ] = None,
    search: Annotated[
        bool,
        typer.Option(
            "--search",
            help="Try the settings of the recipe's [search] table and publish what no other"
            " variant beats in accuracy, latency and size.",
        ),
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Do this step and those that it builds on, and publish nothing: the training"
            " on a machine with a GPU, say, whose cache is then copied. May be repeated.",
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Make the variants of a model by its recipe: train, prune, distil, quantize, measure.

    Needs the extra `compress` (`pip install 'gearshift[compress]'`). Every variant gets its
    card, measured on rows that no step has seen. A run that was cut off goes on where it
    stopped. The guide is docs/compress.md.
    """
    with failing_clearly():
        settings = load_settings(config, repository=repository)
        # What the frameworks tell of their own work is not news here; warnings are.
        configure_logs(settings.model_copy(update={"log_level": "warning"}))
        from gearshift.compress.build import build, prepare
        from gearshift.compress.search import search as searched

        if only:
            if search or results is not None:
                raise typer.BadParameter("--only publishes nothing: leave out --search, --results")
            for recipe in recipes:
                prepare(recipe, cache, _plain, only)
            return
        carry_out = searched if search else build
        for recipe in recipes:
            carry_out(recipe, settings.repository, cache, _plain, results)


def _plain(line: str) -> None:
    out.print(line, highlight=False, markup=False, soft_wrap=True)


app.command()(cascade)
app.command()(explain)
app.command()(health)
app.command()(plan)
app.command()(serve)
app.command()(simulate)
app.command()(study)
app.command()(token)
app.command()(top)
app.command(COMMAND, hidden=True)(serve_process)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        out.print(__version__, highlight=False)
        raise typer.Exit


def _measured(settings: Settings, *, refresh: bool) -> tuple[Any, Any]:
    """The catalog and its profiles, measured where nothing fitting was kept."""
    from gearshift.app import parts

    executors = parts.make_executors(settings)
    catalog = parts.load_catalog(settings, executors)
    parts.load_variants(catalog, executors)
    workers = parts.make_workers(settings, executors)
    with progress_bar() as on_progress:
        profiles = run(
            lambda: parts.measure_profiles(
                settings, catalog, executors, workers, refresh=refresh, on_progress=on_progress
            )
        )
    for executor in executors.values():
        executor.close()
    return catalog, profiles


def main() -> None:
    """The entry point of the `gearshift` script."""
    app(prog_name="gearshift")
    sys.exit(0)
