"""A request that hangs under a server that drains: the ticket reaches who is on call, by way of a
real Prometheus with the shipped rules and a real Alertmanager, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from loadtests.oncall.faults import FAULTS, complaint, watched


async def test_a_drain_that_hangs_is_told_and_nothing_else(tmp_path: Path) -> None:
    (fault,) = (each for each in FAULTS if each.name == "drain hangs")
    # Half of the drain's time, and five seconds at least, must have passed.
    quick = replace(fault, servers=1, drain_seconds=10.0, watched=90.0)
    seen = await watched(quick, tmp_path, interval=1.0, calm=2.0, patience=0.0)
    assert complaint(quick, seen) == ""
    ((_, arrived),) = seen.after
    assert (arrived.receiver, arrived.severity) == ("tickets", "ticket")
    assert "was told to stop" in arrived.annotations["description"]
