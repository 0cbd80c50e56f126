"""Who does not get on is ended; who was kept waiting by this process is not."""

from __future__ import annotations

import asyncio

from gearshift.core.limits import Limits, Usage
from gearshift.http2 import frames
from gearshift.rpc.sweeping import Sweeper
from http2_pair import GREETING, Server, raw
from virtual import virtual


@virtual
async def test_who_was_kept_waiting_while_this_process_slept_has_all_his_time_anew():
    usage = Usage(Limits(stall_seconds=10.0))
    server, sweeper = Server(usage=usage), Sweeper(usage)
    server.connection.data_received(GREETING + raw(frames.HEADERS, 0, 1, b"\x82"))
    sweeper.sweep({server.connection})
    await asyncio.sleep(100.0)
    sweeper.sweep({server.connection}, slept=True)
    await asyncio.sleep(9.0)
    sweeper.sweep({server.connection})
    assert not server.wire.aborted
    await asyncio.sleep(2.0)
    sweeper.sweep({server.connection})
    assert server.wire.aborted
    assert usage.reached["stall_seconds"] == 1


@virtual
async def test_who_has_not_greeted_is_not_silent_while_this_process_sleeps():
    usage = Usage()
    server, sweeper = Server(usage=usage), Sweeper(usage)
    sweeper.sweep({server.connection})
    sweeper.sweep({server.connection}, slept=True)
    assert not server.wire.aborted
    sweeper.sweep({server.connection})
    assert server.wire.aborted
