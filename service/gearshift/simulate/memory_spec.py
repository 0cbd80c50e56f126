"""`--memory gpu=16000`: how many megabytes of variants the devices of a simulation hold."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gearshift.core.catalog import Catalog
from gearshift.core.residency import Memory
from gearshift.simulate.mistakes import Mistakes
from gearshift.simulate.profile_file import ProfileFile
from gearshift.simulate.worker_spec import by_device

OPTION = "--memory"


def parse_memory(spec: str, workers: Mapping[str, int], mistakes: Mistakes) -> Mapping[str, float]:
    """Megabytes by device, each with the workers that share them."""

    def wrong(device: str, text: str) -> str:
        if device not in workers:
            return f"there are no workers of {device!r}; there are: {', '.join(workers)}"
        try:
            size = float(text)
        except ValueError:
            size = math.nan
        return "" if 0 < size < math.inf else f"{text!r} of {device!r}: give megabytes above 0"

    found = by_device(
        OPTION, spec, "device=megabytes; write for example gpu=16000", wrong, mistakes
    )
    return {device: float(text) for device, text in found.items()}


def memory_of(
    profiles: ProfileFile,
    catalog: Catalog,
    limits: Mapping[str, float],
    loading: float,
    mistakes: Mistakes,
) -> Memory:
    """What the variants take of these limits, and how long they load at so many megabytes a
    second. Every variant must have a size."""
    sizes = {}
    for model in catalog.models.values():
        for variant in model.variants:
            size = profiles.memory[model.name].get(variant.name)
            if size is None:
                mistakes.add(
                    profiles.source.name,
                    None,
                    "memory_mb",
                    f"variant {variant.name!r} of model {model.name!r} has none; {OPTION} needs"
                    " the megabytes of each",
                )
            else:
                sizes[model.name, variant.name] = size
    seconds = {variant: size / loading for variant, size in sizes.items()}
    return Memory(limits=limits, sizes=sizes, seconds=seconds)
