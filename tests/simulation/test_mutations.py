"""Bugs can still be put in: what they replace is there. Whether each is found, `make
simulate-faults` says."""

from __future__ import annotations

import pytest

from simulation.mutations import MUTATIONS


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_what_it_replaces_is_there(mutation):
    with mutation.in_force():
        pass
