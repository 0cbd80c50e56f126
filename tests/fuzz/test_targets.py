"""Every target with its seeds, with inputs that were findings once, and with changes by chance.

The same targets run for hours under coverage's guidance: `make fuzz`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.target import Feed
from fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
LARGEST_CASE = 8_192
"""Bytes of a kept finding: what shows it can be made small."""

CASES = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Targets talk to loops of their own."""
    yield
    asyncio._set_running_loop(None)
    structlog.reset_defaults()


@cache
def feed_of(name: str) -> Feed:
    return TARGETS[name].make()


@pytest.mark.parametrize("name", TARGETS)
def test_good_inputs_keep_the_invariants(name: str) -> None:
    for seed in TARGETS[name].seeds():
        assert len(seed) <= TARGETS[name].longest
        feed_of(name)(seed)


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_is_mended(path: Path) -> None:
    assert path.stat().st_size <= LARGEST_CASE
    feed_of(path.parent.name)(path.read_bytes())


@st.composite
def changed(draw: st.DrawFn, name: str) -> bytes:
    """A good input with some bytes exchanged, or pieces of it repeated or left out."""
    seeds = TARGETS[name].seeds()
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.integers(0, 16)))
        data[begin:end] = draw(
            st.one_of(st.binary(max_size=8), st.just(bytes(data[begin:end]) * 3))
        )
    return bytes(data[: TARGETS[name].longest])


@pytest.mark.parametrize("name", TARGETS)
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_changed_inputs_keep_them(name: str, data: st.DataObject) -> None:
    feed_of(name)(data.draw(changed(name)))


def test_a_finding_is_found() -> None:
    """The invariants can fail: a server that forgets to count is noticed."""
    from gearshift.http2.stream import Stream

    target = TARGETS["http2-frames"]
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(Stream, "taken", lambda self, size: None)
        with pytest.raises(AssertionError, match="bytes held"):
            target.make()(target.seeds()[0])
