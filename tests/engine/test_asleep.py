"""The whole process slept: SIGSTOP, a suspended machine, a VM that was stopped. On waking up the
monotonic clock has leapt, with runs under way and tickets waiting."""

from __future__ import annotations

import asyncio

import pytest

from engine_bench import MS, Bench
from gearshift.errors import DeadlineExpired
from virtual import virtual


@pytest.mark.parametrize("leap", [1.0, 8 * 3600.0])
def test_who_is_out_of_time_has_expired_and_the_rest_goes_on(leap):
    @virtual
    async def asleep():
        bench = Bench(workers=1)
        running = asyncio.create_task(bench.ask(1.0))
        await asyncio.sleep(1 * MS)
        hurried = [asyncio.create_task(bench.ask(n, service_class="realtime")) for n in (2.0, 3.0)]
        late = asyncio.create_task(bench.ask(4.0, service_class="archive"))
        patient = asyncio.create_task(bench.ask(5.0))
        await asyncio.sleep(1 * MS)
        asyncio.get_running_loop().jump(leap)
        for task in hurried:
            with pytest.raises(DeadlineExpired):
                await task
        for task, value in ((running, 1.0), (late, 4.0), (patient, 5.0)):
            assert (await task).outputs["y"].tolist() == [[3 * value]]
        after = await bench.ask(6.0, service_class="realtime")
        assert after.outputs["y"].tolist() == [[18.0]]
        assert not bench.executor.replaced, "nobody hung"

    asleep()
