"""The page, and a browser that looks at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from browser import Browser, browser
from fake_gearshift import FakeGearshift, fake_gearshift
from page_bench import PageBench


@pytest.fixture
def fake() -> Iterator[FakeGearshift]:
    with fake_gearshift() as made:
        yield made


@pytest.fixture
def page(fake: FakeGearshift) -> Iterator[PageBench]:
    bench = PageBench(fake)
    yield bench
    bench.server.stop()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture
def window(chromium: Browser) -> Iterator[Browser]:
    """A desktop in its light colours; whatever the browser complains about fails the test."""
    chromium.size(1280, 900)
    chromium.prefer(prefers_color_scheme="light", prefers_reduced_motion="no-preference")
    chromium.complaints()
    yield chromium
    complaints = chromium.complaints()
    chromium.open("about:blank")
    assert complaints == []
