"""`--workers cpu=20,gpu=10`: how many workers of which device a simulation has. The form, a number
for each device, is that of other options, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gearshift.simulate.mistakes import Mistakes

OPTION = "--workers"

MOST = 100_000
"""Workers of one device; more is a slip of the keyboard."""


def parse_workers(spec: str, known: Sequence[str] | None, mistakes: Mistakes) -> Mapping[str, int]:
    """The count of each device, in the order given.

    `known` are the devices that some profile lists, None if the profiles could not be read.
    """
    counts = by_device(
        OPTION,
        spec,
        "device=count; write for example cpu=20,gpu=10",
        lambda device, count: (
            ""
            if count.isascii() and count.isdigit() and 1 <= int(count) <= MOST
            else f"{count!r} workers of {device!r}: give a whole number from 1 to {MOST}"
        ),
        mistakes,
    )
    for device in list(counts):
        if known is not None and device not in known:
            mistakes.add(
                OPTION,
                None,
                "",
                f"no profile lists the device {device!r}; the profiles have: {', '.join(known)}",
            )
            del counts[device]
    return {device: int(count) for device, count in counts.items()}


def by_device(
    option: str, spec: str, form: str, wrong: Callable[[str, str], str], mistakes: Mistakes
) -> dict[str, str]:
    """What `spec` says of each device, in its order, where it is right. `wrong` says in a sentence
    what is wrong with a device's text, "" if nothing is."""
    found: dict[str, str] = {}
    for part in spec.split(","):
        device, equals, text = (piece.strip() for piece in part.partition("="))
        if not (device and equals and text):
            mistakes.add(option, None, "", f"{part.strip()!r} is not {form}")
        elif told := wrong(device, text):
            mistakes.add(option, None, "", told)
        elif device in found:
            mistakes.add(option, None, "", f"device {device!r} stands there twice; add the two up")
        else:
            found[device] = text
    return found


def number_workers(counts: Mapping[str, int]) -> Mapping[int, str]:
    """Each worker's id and its device, numbered from 0 in the order of `counts`."""
    places = [device for device, count in counts.items() for _ in range(count)]
    return dict(enumerate(places))
