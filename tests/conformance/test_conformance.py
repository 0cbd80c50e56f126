"""gearshift says to every call of the inference protocol what Triton says, or there is a reason.

What Triton says was recorded by `make conformance`, which asks it anew.
"""

from __future__ import annotations

import json

import pytest

from conformance.reasons import REASONS
from conformance.servers import gearshift
from conformance.suite import names
from conformance.table import RECORDED, differing, outcomes, unexplained


@pytest.fixture(scope="module")
def told():
    return outcomes(gearshift), json.loads(RECORDED.read_text())


def test_every_case_was_asked_of_triton(told):
    _, theirs = told
    assert list(theirs) == names()


def test_no_difference_is_without_a_reason(told):
    ours, theirs = told
    assert not {name: (ours[name], theirs[name]) for name in unexplained(ours, theirs)}


def test_every_reason_still_explains_something(told):
    ours, theirs = told
    differ = differing(ours, theirs)
    assert all(any(name.startswith(begin) for name in differ) for begin in REASONS)


def test_a_new_difference_is_seen(told):
    ours, _ = told
    changed = {**ours, "infer: one row": {**ours["infer: one row"], "status": "UNKNOWN"}}
    assert differing(ours, changed) == ["infer: one row"]
