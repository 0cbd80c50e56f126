"""`--workers cpu=20,gpu=10`: how many workers of which device a simulation has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gearshift.simulate.mistakes import Mistakes

OPTION = "--workers"

MOST = 100_000
"""Workers of one device; more is a slip of the keyboard."""


def parse_workers(spec: str, known: Sequence[str] | None, mistakes: Mistakes) -> Mapping[str, int]:
    """The count of each device, in the order given.

    `known` are the devices that some profile lists, None if the profiles could not be read.
    """
    counts: dict[str, int] = {}
    for part in spec.split(","):
        device, equals, count = (piece.strip() for piece in part.partition("="))
        if not (device and equals and count):
            mistakes.add(
                OPTION,
                None,
                "",
                f"{part.strip()!r} is not device=count; write for example cpu=20,gpu=10",
            )
        elif not (count.isascii() and count.isdigit() and 1 <= int(count) <= MOST):
            mistakes.add(
                OPTION,
                None,
                "",
                f"{count!r} workers of {device!r}: give a whole number from 1 to {MOST}",
            )
        elif device in counts:
            mistakes.add(OPTION, None, "", f"device {device!r} stands there twice; add the two up")
        elif known is not None and device not in known:
            mistakes.add(
                OPTION,
                None,
                "",
                f"no profile lists the device {device!r}; the profiles have: {', '.join(known)}",
            )
        else:
            counts[device] = int(count)
    return counts


def number_workers(counts: Mapping[str, int]) -> Mapping[int, str]:
    """Each worker's id and its device, numbered from 0 in the order of `counts`."""
    places = [device for device, count in counts.items() for _ in range(count)]
    return dict(enumerate(places))
