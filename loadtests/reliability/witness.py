"""The server as it is, and a witness inside who writes down which requests it has admitted.

    python -m loadtests.reliability.witness FILE serve --repository ...

Each admitted request's id goes into FILE, with one write to the kernel before the engine goes on:
what stands there was taken, however the process ends. What callers say they got is held against it.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from gearshift.cli import main
from gearshift.engine import Engine
from gearshift.processes import member

MODULE = "loadtests.reliability.witness"


def testify(file: str) -> None:
    """From now on, in this process and in the serving processes that it starts."""
    record = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    submit = Engine.submit
    command = member._command

    def submitted(
        self: Engine,
        request: Any,
        inputs: Any,
        arrival: float,
        reply: Any,
        request_id: bytes = b"",
        *others: Any,
        **more: Any,
    ) -> Any:
        flight = submit(self, request, inputs, arrival, reply, request_id, *others, **more)
        os.write(record, request_id + b"\n")
        return flight

    def witnessed(handed: Sequence[int]) -> list[str]:
        python, *_, name = command(handed)[:4]
        return [python, "-m", MODULE, file, name, *map(str, handed)]

    Engine.submit = submitted  # type: ignore[method-assign]
    member._command = witnessed


if __name__ == "__main__":
    # Asked where it is, it says so on standard error.
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    testify(sys.argv.pop(1))
    main()
