"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Repository = Annotated[
    Path | None,
    typer.Option(
        "--repository",
        "-r",
        help="Folder with one folder per model, each with a model.toml.  [default: model_repo]",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None, typer.Option(help="TOML file with settings, named like the options.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Batches that run at the same time, one thread each.  [default: one per core]",
        show_default=False,
    ),
]
StateDir = Annotated[
    Path | None,
    typer.Option(
        help="Where latency profiles and feedback are kept.  [default: ~/.local/state/gearshift]",
        show_default=False,
    ),
]
Provider = Annotated[
    list[str] | None,
    typer.Option(
        "--provider",
        help="ONNX Runtime provider, best first; may be given several times."
        "  [default: the best installed]",
        show_default=False,
    ),
]
