"""An engine whose executor goes wrong by a plan, on the virtual loop."""

from __future__ import annotations

import asyncio

from engine_bench import Bench
from gearshift.executors.fault_plan import Fault, Plan
from gearshift.executors.faulty import FaultyExecutor


class FaultyBench(Bench):
    """A bench whose executor goes wrong by a plan."""

    def __init__(self, *faults: Fault, seed: int = 0, **options) -> None:
        super().__init__(**options)
        self.faulty = FaultyExecutor(
            self.executor, Plan(faults, seed), now=self.loop.time, sleep=asyncio.sleep
        )
        self.engine._executors["fake"] = self.faulty

    def goes_wrong(self, *faults: Fault) -> None:
        self.faulty.take_up(Plan(faults))

    @property
    def ran(self) -> list[str]:
        return [name for name, _ in self.executor.runs]
