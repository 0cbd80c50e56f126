"""`gearshift cascade`: learn from which confidence on a cheaper variant's answer counts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from gearshift.app.settings import load_settings
from gearshift.cli.options import Config, Repository
from gearshift.cli.running import configure_logs, failing_clearly

if TYPE_CHECKING:
    from gearshift.compress.cascade_model import Learning, Tried
    from gearshift.core.card import CascadeCard

out = Console()


def cascade(
    models: Annotated[list[str], typer.Argument(help="Models of the repository, such as garment.")],
    first: Annotated[
        str, typer.Option(help="Try this variant for every row ...", show_default=False)
    ] = "",
    then: Annotated[
        str,
        typer.Option(help="... and this one for those it is not sure of.", show_default=False),
    ] = "",
    within: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=100.0,
            help="How far below the second variant the whole may be, in points (hundredths of the"
            " metric).",
        ),
    ] = 0.3,
    repository: Repository = None,
    cache: Annotated[
        Path, typer.Option(help="Where downloads and the variants' answers are kept.")
    ] = Path("build/compress"),
    results: Annotated[
        Path | None, typer.Option(help="Folder for a page, cascade.md, with a picture a model.")
    ] = None,
    config: Config = None,
) -> None:
    """Learn cascades: a quick variant answers, and only what it is not sure of goes on.

    Runs the variants over held-out rows and looks for the confidence below which a row must go
    on so that the whole is as accurate as asked for. What is stated was measured on other rows
    than those that the threshold was chosen by. Without --first and --then every pair is tried,
    and for each table [[cascades]] in model.toml its cascade.json is written. Needs the extra
    `compress`.
    """
    if bool(first) != bool(then):
        raise typer.BadParameter("give both --first and --then, or neither to try every pair")
    with failing_clearly():
        settings = load_settings(config, repository=repository)
        configure_logs(settings.model_copy(update={"log_level": "warning"}))
        from gearshift.app import parts
        from gearshift.compress.cascade_model import Learning
        from gearshift.compress.cascade_page import Learned, publish

        executors = parts.make_executors(settings)
        catalog = parts.load_catalog(settings, executors, unlearned=True)
        pages = []
        for name in models:
            model = catalog.model(name)
            pair = [first, then] if first else []
            folder = settings.repository / name
            known = Learning(model, folder, cache, _plain, pair)
            command = f"gearshift cascade {name} --within {within:g}"
            found = [
                known.try_pair(one, other, within / 100)
                for one, other in ([(first, then)] if first else known.candidates())
            ]
            cards = _write(known, found, command)
            out.print(_steps(known, found[0]) if first else _pairs(known, found))
            pages.append(Learned(known, found, cards))
            if first and not cards:
                _plain(
                    f"model.toml declares no cascade of the two, so nothing is written; to keep"
                    f' it, add\n\n[[cascades]]\nname = "..."\nfirst = "{first}"\nthen = "{then}"\n'
                )
        if results is not None:
            told = f"gearshift cascade {' '.join(models)} --within {within:g}"
            for path in publish(pages, f"{told} --results {results.as_posix()}", within, results):
                _plain(str(path))


def _write(known: Learning, found: list[Tried], command: str) -> list[CascadeCard]:
    """What model.toml declares and was tried, written where the loader looks for it."""
    by_pair = {(tried.first.name, tried.then.name): tried for tried in found}
    cards = []
    for declared in known.model.cascades:
        tried = by_pair.get((declared.first, declared.then))
        if tried is not None:
            cards.append(known.write(declared, tried, command))
            _plain(f"{known.folder / declared.name}/cascade.json is written")
    return cards


def _pairs(known: Learning, found: list[Tried]) -> Table:
    from gearshift.compress.cascade_model import verdict

    batch = max(known.latency)
    table = Table(title=f"Cascades of {known.model.name}: cross-fitted on {known.rows.about}")
    for heading in ("first", "then"):
        table.add_column(heading)
    for heading in ("threshold", "go on", known.model.metric, "beside then"):
        table.add_column(heading, justify="right")
    table.add_column(f"cost, batch {batch}", justify="right")
    table.add_column("pays")
    for tried in found:
        fit = tried.fit
        figures = ["-"] * 5
        if fit is not None:
            apart = fit.accuracy - known.alone[tried.then.name]
            figures = [
                f"{fit.threshold:.4f}",
                f"{fit.escalated:.2%}",
                f"{fit.accuracy:.4f}",
                f"{apart:+.4f}",
                f"{tried.cost:.2f}",
            ]
        table.add_row(tried.first.name, tried.then.name, *figures, verdict(tried, found))
    return table


def _steps(known: Learning, tried: Tried) -> Table:
    from gearshift.compress.cascade_model import steps

    first, then = tried.first.name, tried.then.name
    table = Table(
        title=f"{known.model.name}: {first}, then {then}, on {known.rows.about}",
        caption="Measured on the rows that the threshold is chosen by; the card is cross-fitted.",
    )
    for heading in ("threshold", "go on", known.model.metric):
        table.add_column(heading, justify="right")
    for batch in known.latency:
        table.add_column(f"cost, batch {batch}", justify="right")
    table.add_column("")
    for step in steps(tried):
        costs = [
            f"{known.seconds(batch, first, then, step.share) / taken[then]:.3f}"
            for batch, taken in known.latency.items()
        ]
        chosen = tried.fit is not None and step.threshold == tried.fit.threshold
        figures = [f"{step.threshold:.4f}", f"{step.share:.2%}", f"{step.accuracy:.4f}", *costs]
        table.add_row(*figures, "chosen" if chosen else "", style="bold" if chosen else "")
    return table


def _plain(line: str) -> None:
    out.print(line, highlight=False, markup=False, soft_wrap=True)
