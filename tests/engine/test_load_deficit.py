"""What more workers would have brought, as the engine tells it."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_bench import MS, Bench
from gearshift.errors import Overloaded
from virtual import run_virtual, virtual


@virtual
async def test_an_idle_server_owes_nobody_anything() -> None:
    """The best in time, though the budget keeps one of them below the best there is."""
    bench = Bench()
    await bench.ask(remaining=20 * MS)
    await bench.ask(remaining=5 * MS)
    deficits = [each.deficit for each in bench.telemetry.answereds]
    assert deficits == pytest.approx([0.0, 0.15])
    loads = [r.load_deficit for each in bench.telemetry.answereds for r in each.requests]
    assert loads == [0.0, 0.0]
    # 10 ms for who gets the large variant, 1 ms for who has no time for it.
    assert [each.wanted for each in bench.telemetry.rans] == pytest.approx([10 * MS, 1 * MS])


@virtual
async def test_who_shifts_down_for_want_of_workers_is_owed_the_difference() -> None:
    bench = Bench()
    first = asyncio.ensure_future(bench.ask(remaining=20 * MS))
    await asyncio.sleep(1 * MS)
    second = await bench.ask(remaining=12 * MS)
    assert (second.variant.name, second.reason) == ("small", "load")
    await first
    loads = {each.variant: each.requests[0].load_deficit for each in bench.telemetry.answereds}
    assert loads == pytest.approx({"large": 0.0, "small": 0.15})
    assert sum(each.wanted for each in bench.telemetry.rans) == pytest.approx(20 * MS)


@virtual
async def test_who_is_shed_counts_with_what_it_wanted() -> None:
    bench = Bench()
    first = asyncio.ensure_future(bench.ask(remaining=20 * MS))
    await asyncio.sleep(1 * MS)
    with pytest.raises(Overloaded):
        await bench.ask(remaining=5 * MS)
    await first
    (shed,) = bench.telemetry.unanswered
    # Its budget has no time for the large variant, however many workers there were.
    assert shed.wanted == pytest.approx(1 * MS)


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from([0.0, 1 * MS, 5 * MS, 30 * MS]),
            st.sampled_from([2 * MS, 11 * MS, 25 * MS, 80 * MS, math.inf]),
            st.sampled_from([None, "small", "large"]),
        ),
        max_size=12,
    )
)
def test_the_load_deficit_is_a_part_of_the_deficit(requests) -> None:
    async def serve() -> Bench:
        bench = Bench()
        asked = []
        for wait, budget, variant in requests:
            await asyncio.sleep(wait)
            asking = {} if variant is None else {"variant": variant}
            asking["remaining"] = budget
            asked.append(asyncio.ensure_future(bench.ask(**asking)))
        await asyncio.gather(*asked, return_exceptions=True)
        return bench

    bench = run_virtual(serve())
    for event in bench.telemetry.answereds:
        for each in event.requests:
            assert 0.0 <= each.load_deficit <= event.deficit + 1e-12
    assert all(0.0 < each.wanted < math.inf for each in bench.telemetry.rans)
