"""What liveness probes are told: too many hung runs, or a loop that hangs itself."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from gearshift.app.health import LOOK_EVERY, SILENT, Health, end_if_stuck
from virtual import virtual


@virtual
async def test_it_follows_the_engine_and_tells_health_checks():
    loop, told = asyncio.get_running_loop(), []

    async def alive(state):
        told.append(state)

    engine = SimpleNamespace(alive=True)
    health = Health(loop.time)
    assert health.alive
    watched = asyncio.create_task(health.watch(engine, SimpleNamespace(alive=alive)))
    await asyncio.sleep(3 * LOOK_EVERY)
    assert health.alive
    engine.alive = False
    await asyncio.sleep(LOOK_EVERY)
    assert not health.alive
    engine.alive = True
    await asyncio.sleep(LOOK_EVERY)
    assert health.alive
    assert told == [False, True]
    loop.jump(SILENT)
    assert not health.alive
    await asyncio.sleep(LOOK_EVERY)
    assert health.alive
    watched.cancel()
    await asyncio.sleep(0)
    loop.jump(10 * SILENT)
    assert health.alive


@virtual
async def test_one_of_several_processes_ends():
    engine, ended = SimpleNamespace(alive=True), []
    looks = asyncio.create_task(end_if_stuck(engine, lambda: ended.append(True)))
    await asyncio.sleep(10)
    assert not ended
    engine.alive = False
    await looks
    assert ended
