"""`gearshift serve-process`: one of several serving processes. Started by the parent only."""

from __future__ import annotations

from typing import Annotated

import structlog
import typer

from gearshift.app.settings import load_settings
from gearshift.cli.running import configure_logs, failing_clearly, progress_bar, run_to_the_end
from gearshift.processes import Parent, bind
from gearshift.processes.member import COMMAND

__all__ = ["COMMAND", "serve_process"]


def serve_process(
    connections: Annotated[int, typer.Argument(help="Descriptor that connections come by.")],
    control: Annotated[int, typer.Argument(help="Descriptor that questions come by.")],
) -> None:
    """Serve behind `gearshift serve --processes`, which starts this; not for people."""
    with failing_clearly():
        parent = Parent(connections, control)
        orders = parent.orders()
        # First of all: every thread that is made from here on keeps to these cores.
        bind(orders.cores)
        settings = load_settings(**orders.settings)
        configure_logs(settings)
        structlog.contextvars.bind_contextvars(process=orders.index)
        from gearshift.app.process import serve_behind

        with progress_bar() as on_progress:
            run_to_the_end(lambda: serve_behind(parent, orders, settings, on_progress))
