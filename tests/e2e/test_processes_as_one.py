"""What several serving processes say is that of all, whichever of them is asked."""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from gearshift.v1 import gearshift_pb2, gearshift_pb2_grpc
from processes_bench import Caller, children, counted_by, processes, served, two_cores, until
from serving import gearshift, start, stop


@two_cores
def test_no_process_takes_shared_memory_that_the_next_request_would_not_find(
    options: tuple[str, ...],
) -> None:
    """So that there is none to lose with it. A client is told before it relies on it."""
    server = start("--processes", "2", "--workers", "2", *options)
    try:
        with triton.InferenceServerClient(server.grpc) as client:
            assert "system_shared_memory" not in client.get_server_metadata().extensions
            with pytest.raises(InferenceServerException) as caught:
                client.register_system_shared_memory("region", "/gearshift-none", 4)
            assert caught.value.status() == "StatusCode.PERMISSION_DENIED"
            # What perf_analyzer begins with is no mistake.
            client.unregister_system_shared_memory()
    finally:
        assert stop(server) == 0


@two_cores
def test_what_is_merged_is_what_was_asked_and_the_page_never_falls(
    options: tuple[str, ...],
) -> None:
    server = start("--processes", "2", "--workers", "2", *options)
    try:
        ending = threading.Event()
        callers = [Caller(server.grpc, ending) for _ in range(4)]
        until(lambda: all(caller.seen["OK"] > 20 for caller in callers))
        ending.set()
        asked = sum(caller.done()["OK"] for caller in callers)
        until(lambda: served(server) == asked)
        assert "nv_inference_request_success" in server.page("/metrics/triton")
        # Of the parent and both processes, and it must not fall when they are replaced.
        everyone = [server.process.pid, *children(server.process)]
        used = sum(cpu_seconds(pid) for pid in everyone)
        (counted,) = server.samples("process_cpu_seconds_total").values()
        most = sum(cpu_seconds(pid) for pid in everyone) + 0.1
        assert used - 1e-6 <= counted <= most  # the sums are rounded
        for pid in children(server.process):
            os.kill(pid, signal.SIGTERM)
        # Asked to end one by one they drain, and are replaced: what they counted stays.
        until(lambda: server.samples("gearshift_processes_replaced_total") == {(): 2})
        assert served(server) == asked
        assert server.samples("process_cpu_seconds_total")[()] >= counted
        until(lambda: processes(server)["serving"] == 2)
    finally:
        assert stop(server) == 0


def cpu_seconds(pid: int) -> float:
    """As the kernel counts them: proc(5), the 14th and 15th field of `stat`."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:13]) / os.sysconf("SC_CLK_TCK")


@two_cores
def test_statistics_are_those_of_all_on_every_connection(options: tuple[str, ...]) -> None:
    server = start("--processes", "2", "--workers", "2", *options)
    ending = threading.Event()
    own = [("grpc.use_local_subchannel_pool", 1)]
    clients = [triton.InferenceServerClient(server.grpc, channel_args=own) for _ in range(2)]
    try:
        for client in clients:
            assert counted_by(client) == (0, 0)
        callers = [Caller(server.grpc, ending) for _ in range(4)]
        until(lambda: all(caller.seen["OK"] > 20 for caller in callers))
        ending.set()
        asked = sum(caller.done()["OK"] for caller in callers)
        assert [counted_by(client) for client in clients] == [(asked, asked)] * 2
        pids = children(server.process)
        os.kill(pids[0], signal.SIGKILL)
        until(lambda: processes(server) == {"wanted": 2, "serving": 1})
        with triton.InferenceServerClient(server.grpc, channel_args=own) as client:
            assert counted_by(client) == (asked, asked)
        until(lambda: processes(server) == {"wanted": 2, "serving": 2})
        for _ in range(3):
            with triton.InferenceServerClient(server.grpc, channel_args=own) as client:
                assert counted_by(client) == (asked, asked)
    finally:
        ending.set()
        for client in clients:
            client.close()
        assert stop(server) == 0


@two_cores
def test_the_frontier_is_that_of_all_on_every_connection(options: tuple[str, ...]) -> None:
    server = start("--processes", "2", "--workers", "2", *options)
    ending = threading.Event()
    own = (("grpc.use_local_subchannel_pool", 1),)
    try:
        callers = [Caller(server.grpc, ending) for _ in range(4)]
        until(lambda: served(server) > 50)
        ending.set()
        answered = sum(caller.done()["OK"] for caller in callers)
        until(lambda: served(server) == answered)
        rows = triton.InferInput("x", [1, 3], "FP32")
        rows.set_data_from_numpy(np.ones((1, 3), np.float32))
        with triton.InferenceServerClient(server.grpc) as client:
            for budget in (-1, -1, -2):
                with suppress(InferenceServerException):
                    client.infer("sums", [rows], parameters={"latency_budget_ms": budget})

        def shown() -> tuple[dict, dict]:
            board = json.loads(server.page("/frontier.json"))
            (model,) = board["models"]
            (only,) = model["variants"]
            return board, only

        # Looking costs time, so that it may show what was there some seconds ago.
        until(lambda: shown()[1]["answered"] == answered)
        board, only = shown()
        assert (only["answered"], only["version"], only["share"]) == (answered, 1, 1.0)
        assert (board["ready"], board["grpc_port"]) == (True, int(server.grpc.split(":")[1]))
        assert sum(refusal["count"] for refusal in board["refusals"]) == 3
        assert {refusal["status"] for refusal in board["refusals"]} == {"INVALID_ARGUMENT"}
        assert "latency_budget_ms" in board["refusals"][0]["message"]
        for _ in range(3):
            with grpc.insecure_channel(server.grpc, options=own) as channel:
                looks = gearshift_pb2_grpc.GearshiftStub(channel).WatchFrontier(
                    gearshift_pb2.WatchFrontierRequest(interval_ms=200), timeout=20
                )
                for look in (next(looks), next(looks)):
                    (point,) = look.models[0].variants
                    assert point.rate * look.window_seconds == pytest.approx(answered)
                looks.cancel()
        told = gearshift("top", "--address", server.grpc, "--once")
        assert told.returncode == 0, told.stderr
        assert "sums (top1)" in told.stdout
        assert "100%" in told.stdout
    finally:
        ending.set()
        assert stop(server) == 0
