"""gearshift says to every call of the inference protocol what Triton says, or there is a reason.

What Triton says was recorded by `make conformance`, which asks it anew.
"""

from __future__ import annotations

import json

import pytest

from conformance.cases import cases
from conformance.reasons import REASONS, reason
from conformance.servers import gearshift
from conformance.table import RECORDED, differing, outcomes


@pytest.fixture(scope="module")
def told():
    with gearshift() as address:
        ours = outcomes(address)
    return ours, json.loads(RECORDED.read_text())


def test_every_case_was_asked_of_triton(told):
    _, theirs = told
    assert list(theirs) == [case.name for case in cases()]


def test_no_difference_is_without_a_reason(told):
    ours, theirs = told
    unexplained = {
        name: (ours[name], theirs[name]) for name in differing(ours, theirs) if not reason(name)
    }
    assert not unexplained


def test_every_reason_still_explains_something(told):
    ours, theirs = told
    differ = differing(ours, theirs)
    assert all(any(name.startswith(begin) for name in differ) for begin in REASONS)


def test_a_new_difference_is_seen(told):
    ours, _ = told
    changed = {**ours, "infer: one row": {**ours["infer: one row"], "status": "UNKNOWN"}}
    assert differing(ours, changed) == ["infer: one row"]
