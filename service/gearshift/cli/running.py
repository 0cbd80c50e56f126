"""What every command does around its one call: a loop, logs, a progress bar, clear failures."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import structlog
import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gearshift.app.settings import Settings
from gearshift.errors import GearshiftError, RepositoryInvalid

T = TypeVar("T")

err = Console(stderr=True)
log = structlog.get_logger(__name__)

LEAVES_WITHIN = 5.0
"""Seconds; parts that hold something back have had their own time before (`app`)."""


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Carry the work out on a loop of its own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work())


def run_to_the_end(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """The same for what this process is for: when the work is over, the process ends within
    LEAVES_WITHIN, even if a thread never comes back from a disk or a database."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(work())
        except BaseException:
            leave_in_time(1)
            raise
        leave_in_time(0)


def leave_in_time(code: int) -> None:
    """End this process by force, with this code, if it is still there after LEAVES_WITHIN: neither
    the loop nor the interpreter gives up waiting for a thread."""

    def leave() -> None:
        log.warning("a thread does not end and is left behind", seconds=LEAVES_WITHIN)
        os._exit(code)

    timer = threading.Timer(LEAVES_WITHIN, leave)
    timer.daemon = True
    timer.start()


def configure_logs(settings: Settings) -> None:
    """Logs as the settings want them, on standard error."""
    from gearshift.telemetry import configure_logs as configure

    configure(settings.log_level, settings.log_format)


class ProgressBar:
    """A progress bar on stderr that can be closed early; silent where stderr is no terminal."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)
        self._started = False

    def __call__(self, what: str, done: int, total: int) -> None:
        if not self._started:
            self._started = True
            self._bar.start()
        self._bar.update(self._task, description=what, completed=done, total=total)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()


@contextmanager
def progress_bar() -> Iterator[ProgressBar]:
    """A bar that is gone at the end."""
    progress = ProgressBar()
    try:
        yield progress
    finally:
        progress.close()


@contextmanager
def failing_clearly() -> Iterator[None]:
    """What gearshift itself finds wrong is a line or a list, not a traceback."""
    try:
        yield
    except RepositoryInvalid as error:
        count = len(error.problems)
        err.print(f"the repository has {count} mistake(s):", style="red", highlight=False)
        for problem in error.problems:
            err.print(f"  {problem}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except GearshiftError as error:
        err.print(f"gearshift: {error}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
