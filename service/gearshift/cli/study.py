"""`gearshift study`: what a technique of training or compression is worth, measured anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gearshift.errors import GearshiftError

out = Console()
err = Console(stderr=True)


def study(
    names: Annotated[
        list[str],
        typer.Argument(
            help="`checkpointing`, `calibration`, `sparsity`, `distillation`,"
            " `batch-normalization`, `transfer`, or `all`."
        ),
    ],
    results: Annotated[Path, typer.Option(help="Folder for the pages and pictures.")] = Path(
        "docs/results"
    ),
    cache: Annotated[Path, typer.Option(help="Where downloads are kept.")] = Path("build/compress"),
    quick: Annotated[
        bool,
        typer.Option("--quick", help="At a tiny size on made-up data: shows that it runs."),
    ] = False,
    redraw: Annotated[
        bool,
        typer.Option("--redraw", help="Write the page anew from what was measured last time."),
    ] = False,
) -> None:
    """Measure what a technique is worth: pruning, distillation, checkpoints and the like.

    Needs the extra `compress` (`pip install 'gearshift[compress]'`). Each study writes a page
    with a picture, study-NAME.md and study-NAME.png; all together take about an hour and a half.
    """
    try:
        from gearshift.compress.machine import machine
        from gearshift.compress.studies import catalog

        chosen = list(catalog.STUDIES) if names == ["all"] else [catalog.known(n) for n in names]
        for name in chosen:
            if redraw:
                found = catalog.kept(name, cache)
            else:
                result = catalog.carry_out(name, cache, _plain, quick=quick)
                command = f"gearshift study {name}{' --quick' if quick else ''}"
                found = catalog.Kept(result, machine(), command)
            if not quick and not redraw:
                catalog.keep(name, found, cache)
            for path in catalog.publish(name, found, results):
                _plain(str(path))
    except GearshiftError as error:
        err.print(f"gearshift: {error}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None


def _plain(line: str) -> None:
    out.print(line, highlight=False, markup=False, soft_wrap=True)
