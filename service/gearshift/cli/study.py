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
        typer.Option("--quick", help="At a tiny size on made-up data: shows that it runs, no more"),
    ] = False,
) -> None:
    """Measure what a technique is worth: pruning, distillation, checkpoints and the like.

    Needs the extra `compress` (`pip install 'gearshift[compress]'`). Each study writes a page
    with a picture, study-NAME.md and study-NAME.png; all together take about an hour.
    """
    try:
        from gearshift.compress.studies.catalog import STUDIES, carry_out, known, publish

        chosen = list(STUDIES) if names == ["all"] else [known(name) for name in names]
        for name in chosen:
            result = carry_out(name, cache, _plain, quick=quick)
            command = f"gearshift study {name}{' --quick' if quick else ''}"
            for path in publish(name, result, results, command):
                _plain(str(path))
    except GearshiftError as error:
        err.print(f"gearshift: {error}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None


def _plain(line: str) -> None:
    out.print(line, highlight=False, markup=False, soft_wrap=True)
