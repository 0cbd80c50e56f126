"""One target under atheris: inputs that reach new code are kept and changed further.

`python -m fuzz.guided TARGET [options of libFuzzer]`. The code under test is instrumented as it is
imported, so that nothing of it may be imported before.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

import atheris

from fuzz.target import Feed

PARTS = ["gearshift", "hpack", "tomllib"]
"""What is instrumented: our own code, and what takes bytes apart for it in Python."""


LONGEST_INPUT_S = 10
"""Seconds of CPU that one input may take; longer is a finding. Not by the clock on the wall: on a
busy machine that goes on while nothing runs here."""


def timed(feed: Feed) -> Feed:
    """The same, ended by an error where it takes too long."""

    def too_long(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"one input took more than {LONGEST_INPUT_S} s")

    signal.signal(signal.SIGPROF, too_long)

    def one(data: bytes) -> None:
        signal.setitimer(signal.ITIMER_PROF, LONGEST_INPUT_S)
        try:
            feed(data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    return one


def main(name: str, options: list[str]) -> None:
    with atheris.instrument_imports(include=PARTS):
        from fuzz.targets import TARGETS
    target = TARGETS[name]
    feed = target.make()
    longest = f"-max_len={target.longest}"
    atheris.Setup([sys.argv[0], longest, *options], timed(feed))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
