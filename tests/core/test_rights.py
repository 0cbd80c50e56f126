from __future__ import annotations

import pytest

from gearshift.core.rights import EVERYTHING, GRANTED, NOTHING, Group, Rights
from gearshift.errors import Forbidden


def test_groups_and_models_are_what_was_granted():
    desk = Rights("desk", [Group.INFER], ["fraud", "tumour-*"])
    assert desk.may(Group.INFER)
    assert desk.may(Group.OPEN)
    assert not desk.may(Group.CONTROL)
    assert [desk.sees(name) for name in ("fraud", "tumour-x", "tumour", "fraud2", "a\nfraud")] == [
        *(True, True, False, False, False)
    ]
    with pytest.raises(Forbidden, match="client 'desk' may not .* needs the right 'control'"):
        desk.need(Group.CONTROL)
    with pytest.raises(Forbidden, match=r"'garment'; its models are: fraud, tumour-\*"):
        desk.need_model("garment")


def test_without_access_control_everything_and_without_a_proof_nothing():
    assert all(EVERYTHING.may(group) for group in GRANTED)
    assert EVERYTHING.sees("whatever")
    assert not any(NOTHING.may(group) for group in GRANTED)
    assert NOTHING.may(Group.OPEN)
    assert not NOTHING.sees("whatever")
    assert not NOTHING.sees("")


def test_no_pattern_of_another_kind_than_file_names_have():
    assert not Rights("c", GRANTED, ["a.b"]).sees("axb")
    assert Rights("c", GRANTED, ["[ab]"]).sees("b")
    assert Rights("c", GRANTED, ["Fraud"]).sees("Fraud")
    assert not Rights("c", GRANTED, ["Fraud"]).sees("fraud")
