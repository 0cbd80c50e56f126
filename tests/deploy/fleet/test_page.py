"""The page of the fleet, from runs made up."""

from __future__ import annotations

from collections import Counter

import pytest
from loadtests.fleet import manifest, page, runs
from loadtests.fleet.load import Ended, Outcomes


def seen(*statuses: str, spreads=({"a": 110, "b": 90},)) -> runs.Seen:
    ended = [Ended(float(n), status, "", 0.01) for n, status in enumerate(statuses)]
    return runs.Seen(
        60.0,
        [Outcomes("through Envoy", 0.5, ended)],
        {"a": Counter(served=3, shed=1), "b": Counter(served=4)},
        list(spreads),
        {"upstream_rq_retry": 7},
        {"a": [(1.0, "ready"), (2.0, "SIGTERM")], "b": []},
        1,
    )


def test_every_ending_and_every_pod_is_told():
    template = manifest.read(runs.rendered(2)).template
    good, bad = seen("OK", "OK"), seen("OK", "UNAVAILABLE", "UNAVAILABLE", "OK")
    text = "\n".join(page.lines(page.Story(template, 120.0, good, bad, bad), "1 %"))
    assert "| through Envoy | 2 | 2 | 100.00 | none | 10.0 | 10.0 |" in text
    assert "| through Envoy | 4 | 2 | 50.00 | UNAVAILABLE 2 | 10.0 | 10.0 |" in text
    assert "| a | 3 | shed 1 | ready 1.0, SIGTERM 2.0 |" in text
    assert "The pods counted 7 answers" in text
    assert "110 and 90" in text
    assert "10.0 %" in text
    assert "`upstream_rq_retry` 7" in text


def test_in_time_is_by_the_callers_clock_and_unevenness_by_the_worst_pod():
    late = Outcomes("x", 0.5, [Ended(0, "OK", "", 0.6), Ended(0, "OK", "", 0.4)])
    assert late.attainment == 0.5
    spreads = ({"a": 100, "b": 100}, {"a": 120, "b": 60, "c": 120})
    assert seen("OK", spreads=spreads).unevenness == pytest.approx(0.4)
