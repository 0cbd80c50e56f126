"""When to stop: what the operating system says."""

from __future__ import annotations

import asyncio
import os
import signal
from types import FrameType
from typing import NoReturn

NUMBERS = (signal.SIGTERM, signal.SIGINT)


def stop_on_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def first() -> None:
        stop.set()
        for number in NUMBERS:
            loop.remove_signal_handler(number)
            end_at_once(number)

    for number in NUMBERS:
        loop.add_signal_handler(number, first)
    return stop


def on_hang_up() -> asyncio.Event:
    """Set by each SIGHUP, for who clears it: what a daemon reads its configuration anew for. From
    now on it no longer ends the process."""
    wanted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, wanted.set)
    return wanted


def end_at_once(number: signal.Signals) -> None:
    """Let the signal end this process, as it does any that has not asked for it.

    But not process 1, which a server is in a container: what the kernel does by default it does
    not do to that one (pid_namespaces(7)), and a container that is still loading would outlive
    its SIGTERM until it is killed.
    """
    signal.signal(number, _end if os.getpid() == 1 else signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)
