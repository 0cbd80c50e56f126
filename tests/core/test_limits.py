"""What callers can make a server keep: counted, refused, divided among processes."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loadtests.reliability.bound import bound, parts, pictures

from gearshift.app.limit_settings import LimitSettings
from gearshift.app.parts import preparing_threads
from gearshift.app.settings import Settings
from gearshift.core.limits import COUNTED, IN_ALL, KIB, MIB, REASONS, HttpLimits, Limits, Usage
from gearshift.errors import TooMany
from gearshift.repository.steps_schema import ImageEntry


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60),
    st.integers(1, 6),
    st.integers(1, 6),
)
def test_connections_never_pass_their_limits_and_all_are_given_back(steps, most, most_of_one):
    usage = Usage(Limits(max_connections=most, max_connections_per_peer=most_of_one))
    inside: list[str] = []
    refused = 0
    for peer, comes in steps:
        if comes:
            room = len(inside) < most and inside.count(peer) < most_of_one
            assert usage.enter(peer) == room
            if room:
                inside.append(peer)
            else:
                refused += 1
        elif peer in inside:
            inside.remove(peer)
            usage.leave(peer)
        assert usage.connections == len(inside)
    assert sum(usage.refused.values()) == refused
    for peer in inside:
        usage.leave(peer)
    assert usage.connections == 0
    assert not usage._peers  # or else it would grow with every address that ever came


def test_who_comes_to_a_limit_hears_which_setting_it_is():
    usage = Usage(Limits(max_queue_bytes=100))
    usage.check_queue(100)
    usage.queued = 1
    with pytest.raises(TooMany, match=r"limit of 100 bytes of inputs .*setting max_queue_bytes"):
        usage.check_queue(100)
    assert usage.reached["max_queue_bytes"] == 1


def test_every_limit_is_counted_somewhere():
    named = {each.name for each in fields(Limits)}
    assert named == {*COUNTED, *REASONS}
    assert set(IN_ALL) <= named
    # All are there from the start: a rate is only right from a series' first value on.
    usage = Usage()
    assert set(usage.reached) == set(COUNTED)
    assert set(usage.refused) == set(REASONS)


@given(st.integers(1, 64))
def test_processes_together_hold_about_what_one_would(processes):
    whole = Limits()
    share = whole.share(processes)
    for name in IN_ALL:
        together, one = processes * getattr(share, name), getattr(whole, name)
        assert together >= one
        if name != "max_held_bytes":
            assert together < one + processes * max(1, one // 100) or one < processes * 2**21
    assert share.max_held_bytes >= 2 * share.max_message_bytes
    assert share.max_streams == whole.max_streams


def test_the_page_states_what_the_limits_are():
    """docs/limits.md: every setting with its default, and the sum of them all."""
    page = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE))
    settings = LimitSettings.model_fields
    assert rows.keys() == settings.keys()
    for name, told in rows.items():
        number, _, unit = told.replace(",", "").strip().partition(" ")
        assert float(number) * {"": 1, "KiB": KIB, "MiB": MIB}[unit] == settings[name].default, name
    for _, formula, size in parts(Limits(), HttpLimits()):
        assert f"| {formula} | {size / MIB:,.0f} |" in page
    threads = preparing_threads(Settings(workers=2))
    decoded = pictures(threads, ImageEntry.model_fields["max_pixels"].default)
    assert f"x max_pixels x 12 bytes | {decoded / MIB:,.0f} |" in page
    assert f"**{(bound(Limits(), HttpLimits()) + decoded) / MIB:,.0f}**" in page
