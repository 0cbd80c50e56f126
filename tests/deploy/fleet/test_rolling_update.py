"""Real pods, a real Envoy and stock gRPC clients while all pods are replaced, on a quick clock."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from loadtests.fleet import fleet, manifest, runs

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 for servers of one port"
)

BUDGET = 15.0
"""Seconds: nothing here is about speed."""


async def test_a_rolling_update_costs_no_request_and_requests_are_balanced(tmp_path):
    deployment = manifest.read(runs.rendered(2))
    quick = replace(deployment, template=fleet.without_waiting(deployment.template, 2.5))

    async def play(stage: runs.Stage) -> None:
        await stage.spread(1.0)
        stage.fleet.roll_out()
        await stage.fleet.until_updated(120)
        await stage.spread(1.0)

    seen = await runs.run(quick, tmp_path, play, rate=40, budget=BUDGET, through_channel=True)
    for callers in seen.callers:
        assert set(callers.statuses) == {"OK"}, callers.failed[:3]
    # Both replicas got some, before and after, although no caller has more than one connection.
    assert [len(spread) for spread in seen.spreads] == [2, 2]
    assert all(count > 0 for spread in seen.spreads for count in spread.values())
    # All four pods ended well or still run, none was started again, none failed anybody.
    assert len(seen.lives) == 4
    ends = [what for life in seen.lives.values() for _, what in life if what.startswith("ended")]
    assert ends == ["ended with 0"] * 2
    assert seen.restarts == 0
    # Late by the class's own budget is answered, too.
    assert {outcome for outcome, count in seen.total.items() if count} <= {"served", "late"}
