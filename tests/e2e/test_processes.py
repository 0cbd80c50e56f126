"""Several serving processes behind one port, driven from outside only."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from processes_bench import Caller, children, counted_by, processes, served, two_cores, until
from serving import gearshift, start, stop


@two_cores
def test_two_serve_and_one_that_dies_takes_only_its_own_requests(options: tuple[str, ...]) -> None:
    server = start("--processes", "2", "--workers", "2", *options)
    ending = threading.Event()
    callers = []
    try:
        assert server.page("/readyz").startswith("ready")
        before = children(server.process)
        assert len(before) == 2
        cores = [os.sched_getaffinity(pid) for pid in before]
        assert cores[0].isdisjoint(cores[1])

        callers = [Caller(server.grpc, ending) for _ in range(6)]
        busy = "gearshift_worker_busy_seconds_total"
        until(lambda: sorted(server.samples(busy, device="express")) == [("10000",), ("10001",)])
        counted = served(server)
        assert counted > 0

        os.kill(before[0], signal.SIGKILL)
        until(lambda: processes(server) == {"wanted": 2, "serving": 1})
        assert server.page("/readyz").startswith("ready")
        assert served(server) >= counted
        until(lambda: processes(server) == {"wanted": 2, "serving": 2})
        assert server.samples("gearshift_processes_replaced_total") == {(): 1}
        after = children(server.process)
        assert len(after) == 2
        assert before[1] in after
        assert os.sched_getaffinity((set(after) - set(before)).pop()) == cores[0]

        # Those who lost their connection have another one, and everybody is answered.
        so_far = [caller.seen["OK"] for caller in callers]
        until(lambda: all(c.seen["OK"] > n for c, n in zip(callers, so_far, strict=True)))
        ending.set()
        seen = [caller.done() for caller in callers]
        # Connections are spread evenly, so half of them were on the process that died.
        assert [set(each) for each in seen].count({"OK"}) == 3
        assert set().union(*seen) == {"OK", "UNAVAILABLE"}
    finally:
        ending.set()
        for caller in callers:
            caller.done()
        assert stop(server) == 0
    assert [pid for pid in (*before, *after) if Path(f"/proc/{pid}/stat").exists()] == []


class StreamCaller:
    """One ModelStreamInfer on a connection of its own: always some requests under way."""

    def __init__(self, address: str, ending: threading.Event) -> None:
        self.answers = 0
        self.code: grpc.StatusCode | None = None
        """How the stream ended; None as long as it has not."""
        self._ending = ending
        self._room = threading.Semaphore(8)
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _requests(self) -> Iterator[pb.ModelInferRequest]:
        request = pb.ModelInferRequest(model_name="sums")
        request.inputs.add(name="x", datatype="FP32", shape=(1, 3))
        request.raw_input_contents.append(np.ones((1, 3), np.float32).tobytes())
        while not self._ending.is_set():
            self._room.acquire()
            yield request

    def _ask(self) -> None:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        try:
            for answer in stub.ModelStreamInfer(self._requests(), timeout=120):
                assert not answer.error_message
                self.answers += 1
                self._room.release()
            self.code = grpc.StatusCode.OK
        except grpc.RpcError as error:
            self.code = error.code()
            self._room.release()

    def done(self) -> grpc.StatusCode | None:
        self._thread.join(60)
        self._channel.close()
        return self.code


@two_cores
def test_one_that_dies_in_the_middle_of_streams_ends_only_those_that_it_had(
    options: tuple[str, ...],
) -> None:
    server = start("--processes", "2", "--workers", "2", *options)
    ending = threading.Event()
    streams = [StreamCaller(server.grpc, ending) for _ in range(4)]
    try:
        until(lambda: all(stream.answers > 20 for stream in streams))
        os.kill(children(server.process)[0], signal.SIGKILL)
        until(lambda: sum(stream.code is not None for stream in streams) == 2)
        so_far = [stream.answers for stream in streams]
        left = [stream for stream in streams if stream.code is None]
        until(lambda: sum(s.answers > n for s, n in zip(streams, so_far, strict=True)) == 2)
        ending.set()
        assert [stream.done() for stream in left] == [grpc.StatusCode.OK] * 2
        ended = [stream.done() for stream in streams if stream not in left]
        assert ended == [grpc.StatusCode.UNAVAILABLE] * 2
    finally:
        ending.set()
        for stream in streams:
            stream.done()
        assert stop(server) == 0


@two_cores
def test_one_that_is_told_to_end_costs_nobody_anything(options: tuple[str, ...]) -> None:
    """Its callers go on with the other, the statistics stay those of all, and health stays."""
    server = start("--processes", "2", "--workers", "2", *options)
    ending = threading.Event()
    callers = [Caller(server.grpc, ending) for _ in range(4)]
    own = [("grpc.use_local_subchannel_pool", 1)]
    clients = [triton.InferenceServerClient(server.grpc, channel_args=own) for _ in range(2)]
    channels = [grpc.insecure_channel(server.grpc, own) for _ in range(2)]
    said: list[int] = []

    def watch(channel: grpc.Channel) -> None:
        asked = health_pb2.HealthCheckRequest(service="sums")
        with suppress(grpc.RpcError):
            for answer in health_pb2_grpc.HealthStub(channel).Watch(asked, timeout=120):
                said.append(answer.status)  # noqa: PERF401 - each as it comes

    # One after the other, so that they are spread: each to the process with fewer connections.
    for client in clients:
        client.is_server_live()
    watchers = [threading.Thread(target=watch, args=(channel,)) for channel in channels]
    for watcher in watchers:
        watcher.start()
    try:
        until(lambda: len(said) == 2 and all(caller.seen["OK"] > 20 for caller in callers))
        before = children(server.process)
        for pid in before:
            os.kill(pid, signal.SIGTERM)
            until(lambda: processes(server) == {"wanted": 2, "serving": 1})
            until(lambda: processes(server) == {"wanted": 2, "serving": 2})
        so_far = [caller.seen["OK"] for caller in callers]
        until(lambda: all(c.seen["OK"] > n for c, n in zip(callers, so_far, strict=True)))
        ending.set()
        assert [set(caller.done()) for caller in callers] == [{"OK"}] * 4
        assert set(said) == {health_pb2.HealthCheckResponse.SERVING}
        told = [counted_by(client) for client in clients]
        assert told[0] == told[1]
        # What one that ended had counted after it was asked last is not known.
        assert 0 < told[0][1] <= sum(caller.seen["OK"] for caller in callers)
    finally:
        ending.set()
        for channel in channels:
            channel.close()
        for each in (*callers, *watchers):
            each.done() if isinstance(each, Caller) else each.join(60)
        for client in clients:
            client.close()
        assert stop(server) == 0


def test_the_death_of_the_parent_leaves_nobody_behind(options: tuple[str, ...]) -> None:
    server = start("--processes", "2", "--workers", "2", *options)
    orphans = children(server.process)
    server.process.kill()
    server.process.wait()
    server.process.stdout.close()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans), within=10)


def test_too_many_processes_a_taken_port_and_a_broken_repository_are_told(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    failed = gearshift("serve", "--processes", "9", "--workers", "2", *options)
    assert failed.returncode == 1
    assert "9 processes cannot divide 2 worker(s)" in failed.stderr
    ports = ("--processes", "2", "--workers", "2", "--http-port", "0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        failed = gearshift("serve", *ports, "--grpc-port", port, *options)
        assert failed.returncode == 1
        assert len(failed.stderr.strip().splitlines()) == 1, failed.stderr
        assert port in failed.stderr
    (tmp_path / "repo" / "sums" / "only" / "model.onnx").unlink()
    failed = gearshift("serve", *ports, "--grpc-port", "0", *options)
    assert failed.returncode == 1
    assert "sums/only/model.onnx" in failed.stderr
    assert "before it was ready" in failed.stderr
    assert "Traceback" not in failed.stderr
