"""Bugs put in on purpose, each looked for in scenarios one after the other.

Not in `__main__`: what runs in other processes must be found by its module's name.
"""

from __future__ import annotations

from simulation.check import found_after
from simulation.mutations import MUTATIONS
from simulation.report import Found

WITHIN = 200
"""Seeds within which every one is to be found."""


def mutation_found(number: int) -> Found:
    mutation = MUTATIONS[number]
    found = found_after(mutation, range(WITHIN))
    return Found(mutation.name, *(found or (0, "")))
