"""gRPC on the wire: timeouts, compression, endings, and what broken clients send."""

from __future__ import annotations

import asyncio
import gc
import gzip
import math
import socket
import threading
import time
import zlib
from collections import Counter
from contextlib import suppress

import grpc
import h2.config
import h2.connection
import h2.events
import hpack
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2_grpc

from gearshift.core.limits import Limits
from gearshift.engine.flight import Flight
from gearshift.http2 import Stream
from gearshift.rpc import calls, make_server, server, wire
from gearshift.rpc.wire import WireError, decompressed, read_call, read_timeout
from raw_client import FRAMED, PATH, Raw, in_its_loop, request, value_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1H", 3600),
        ("2M", 120),
        ("3S", 3),
        ("250m", 0.25),
        ("99999999n", 0.099999999),
        ("7u", 7e-6),
    ],
)
def test_timeouts_have_a_unit(text, seconds):
    assert read_timeout(text.encode()) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "S", "-1S", "1.5S", "123456789S", "5x", "\u0661S", "5 S"]
)
def test_a_timeout_that_is_none_is_a_clear_error(text):
    with pytest.raises(WireError, match="grpc-timeout"):
        read_timeout(text.encode("utf-8"))


def test_a_calls_headers_are_read():
    call = read_call(
        [
            (b":method", b"POST"),
            (b":path", b"/a/b"),
            (b"content-type", b"application/grpc+proto"),
            (b"grpc-timeout", b"10m"),
            (b"grpc-encoding", b"gzip"),
            (b"x-user", b"me"),
            (b"x-raw-bin", b"AAE"),
        ]
    )
    assert (call.path, call.timeout, call.encoding, call.grpc) == ("/a/b", 0.01, b"gzip", True)
    assert call.metadata == (("x-user", "me"), ("x-raw-bin", b"\x00\x01"))
    assert call.fault is None
    assert read_call([(b"content-type", b"text/html")]).grpc is False
    assert read_call([]).timeout == math.inf
    unknown = read_call([(b"grpc-encoding", b"zstd")])
    assert unknown.fault.code is grpc.StatusCode.UNIMPLEMENTED
    assert read_call([(b"grpc-timeout", b"soon")]).fault.code is grpc.StatusCode.INTERNAL


@given(st.binary(max_size=2_000), st.sampled_from([b"gzip", b"deflate"]))
def test_what_was_compressed_is_whole_again(message, encoding):
    packed = gzip.compress(message) if encoding == b"gzip" else zlib.compress(message)
    assert decompressed(packed, encoding, 2_000) == message
    with pytest.raises(WireError):
        decompressed(packed[:-1], encoding, 2_000)


def test_a_bomb_is_not_unpacked():
    with pytest.raises(WireError, match="above the limit"):
        decompressed(gzip.compress(bytes(50_000_000)), b"gzip", 1_000)


@given(st.binary(max_size=200), st.sampled_from([b"gzip", b"deflate", b""]))
def test_damaged_messages_are_clear_errors(message, encoding):
    with pytest.raises(WireError):
        decompressed(message, encoding, 1_000)


@given(st.text(max_size=300), st.sampled_from(list(grpc.StatusCode)))
def test_a_status_message_survives_the_trailers(text, code):
    from urllib.parse import unquote

    fields = dict(hpack.Decoder().decode(wire.trailers_only(code, text), raw=True))
    assert int(fields[b"grpc-status"]) == code.value[0]
    told = fields.get(b"grpc-message", b"")
    assert unquote(told.decode("ascii")) == text
    assert all(0x20 <= byte < 0x7F for byte in told)


# --- a served engine ---------------------------------------------------------------------


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests_are_answered(bench, compression):
    with grpc.insecure_channel(bench.address, compression=compression) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert value_of(stub.ModelInfer(request())) == 6.0


def test_a_method_that_is_not_there_is_unimplemented(bench):
    with grpc.insecure_channel(bench.address) as channel:
        for path in ("/inference.GRPCInferenceService/Nothing", "/nobody/At", "nonsense"):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(path)(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_what_is_no_message_is_an_error_and_harms_nobody(bench):
    with grpc.insecure_channel(bench.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(PATH)(b"\xff\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/inference.GRPCInferenceService/ModelReady")(b"\xff\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert value_of(service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request()))


async def test_health_is_watched_through_a_drain(make_bench):
    bench = make_bench()
    async with grpc.aio.insecure_channel(bench.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service="m")
        )
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(bench.server.not_serving(), bench.loop)
        )
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()


def test_a_watch_ends_with_its_deadline(bench):
    with grpc.insecure_channel(bench.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=0.1))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


INTERNAL = str(grpc.StatusCode.INTERNAL.value[0])


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ((FRAMED,), "0"),
        (tuple(FRAMED[i : i + 1] for i in range(len(FRAMED))), "0"),
        ((FRAMED[:3], FRAMED[3:], b""), "0"),
        ((b"",), INTERNAL),
        ((FRAMED[:-1],), INTERNAL),
        ((FRAMED + b"x",), INTERNAL),
        ((FRAMED, FRAMED), INTERNAL),
        ((b"\x01" + FRAMED[1:],), INTERNAL),
    ],
)
async def test_one_message_is_one_message(bench, pieces, status):
    headers = await Raw(bench).ask(*pieces)
    assert headers["grpc-status"] == status


async def test_a_message_that_says_it_is_huge_is_refused_before_it_comes(bench):
    announced = b"\x00" + (Limits().max_message_bytes + 1).to_bytes(4, "big")
    headers = await Raw(bench).ask(announced + bytes(100), ended=False)
    assert headers["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])


async def test_who_does_not_speak_grpc_is_told_so(bench):
    assert (await Raw(bench).ask(b"{}", content="application/json"))[":status"] == "415"


async def test_who_says_nothing_is_sent_away_at_the_second_look(make_bench):
    bench = make_bench()
    host, port = bench.address.split(":")
    reader, writer = await asyncio.open_connection(host, port)
    async with asyncio.timeout(10):
        await reader.read(10)  # the server's settings: the connection is known
        await in_its_loop(bench, bench.server.sweep)
        assert not reader.at_eof()
        await in_its_loop(bench, bench.server.sweep)
        with suppress(ConnectionResetError):
            while await reader.read(65_536):
                pass
    writer.close()


async def test_a_request_that_is_never_complete_is_ended(make_bench):
    bench = make_bench(limits=Limits(stall_seconds=1.0))
    asked = asyncio.ensure_future(Raw(bench).ask(FRAMED[:10], ended=False))
    async with asyncio.timeout(10):
        while not any(c.streams for c in bench.server._connections):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await in_its_loop(bench, bench.server.sweep)
        assert not asked.done()
        await asyncio.sleep(1.1)
        await in_its_loop(bench, bench.server.sweep)
        headers = await asked
    assert headers["grpc-status"] == str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0])


class Adopted:
    """A server without a port, as in one of several processes: it looks after its connections
    in every turn of its loop. `caller` is the other end of the one it was given."""

    def __init__(self, bench, made: server.RpcServer | None = None) -> None:
        self.bench = bench
        self.made = made
        self.over = threading.Event()

    async def __aenter__(self) -> Adopted:
        self.caller, its_end = socket.socketpair()
        self.caller.settimeout(10)
        its_end.setblocking(False)

        async def begin() -> server.RpcServer:
            made = self.made or await make_server(self.bench.engine, shared_memory=False)
            await made.adopt(its_end, self.over.set)
            return made

        self.server = await self._there(begin())
        return self

    async def __aexit__(self, *raised) -> None:
        self.caller.close()
        if self.made is None:
            await self._there(self.server.stop(1.0))

    async def turns(self, count: int) -> None:
        async def pass_by() -> None:
            for _ in range(count):
                await asyncio.sleep(0)

        await self._there(pass_by())

    async def _there(self, work):
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.bench.loop))

    def rest(self) -> bytes:
        """All that comes until the connection ends; TimeoutError if it does not end."""
        parts = []
        with suppress(ConnectionResetError):
            while part := self.caller.recv(65_536):
                parts.append(part)
        return b"".join(parts)


async def test_an_adopted_connection_that_says_nothing_is_sent_away(make_bench, monkeypatch):
    monkeypatch.setattr(server, "SWEEP_EVERY", 0.0)
    async with Adopted(make_bench()) as adopted:
        await asyncio.to_thread(adopted.rest)
        # So that the parent counts it no longer.
        assert await asyncio.to_thread(adopted.over.wait, 10)


async def test_a_connection_that_comes_to_a_process_that_leaves_is_sent_on(make_bench):
    """The parent had handed it over before it heard that the process drains."""
    bench = make_bench()
    await asyncio.wrap_future(
        asyncio.run_coroutine_threadsafe(bench.server.send_away(), bench.loop)
    )
    async with Adopted(bench, bench.server) as adopted:
        client = h2.connection.H2Connection()
        events = client.receive_data(await asyncio.to_thread(adopted.rest))
        assert [
            e.last_stream_id for e in events if isinstance(e, h2.events.ConnectionTerminated)
        ] == [0]


async def test_an_adopted_connection_that_has_greeted_stays(make_bench, monkeypatch):
    async with Adopted(make_bench()) as adopted:
        client = h2.connection.H2Connection()
        client.initiate_connection()
        adopted.caller.sendall(client.data_to_send())
        # The acknowledgement of the client's settings: the greeting has been read.
        while not any(
            isinstance(event, h2.events.SettingsAcknowledged)
            for event in client.receive_data(await asyncio.to_thread(adopted.caller.recv, 65_536))
        ):
            pass
        monkeypatch.setattr(server, "SWEEP_EVERY", 0.0)
        await in_its_loop(adopted.bench, adopted.server.sweep)
        await adopted.turns(20)
        assert not adopted.over.is_set()


async def test_a_request_on_an_adopted_connection_that_is_never_complete_is_ended(
    make_bench,
):
    async with Adopted(make_bench(limits=Limits(stall_seconds=0.05))) as adopted:
        client = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        client.initiate_connection()
        headers = [(":method", "POST"), (":scheme", "http"), (":path", PATH), (":authority", "x")]
        client.send_headers(1, [*headers, ("content-type", "application/grpc"), ("te", "trailers")])
        client.send_data(1, FRAMED[:10])
        adopted.caller.sendall(client.data_to_send())
        while not any(each.streams for each in adopted.server._connections):
            await adopted.turns(1)
        await asyncio.sleep(0.06)
        await in_its_loop(adopted.bench, adopted.server.sweep)
        told: list[dict[str, str]] = []
        while not told:
            came = await asyncio.to_thread(adopted.caller.recv, 65_536)
            kinds = (h2.events.ResponseReceived, h2.events.TrailersReceived)
            told += [dict(e.headers) for e in client.receive_data(came) if isinstance(e, kinds)]
        assert told[-1]["grpc-status"] == str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0])


@pytest.mark.parametrize("pieces", [(FRAMED,), (FRAMED[:9], FRAMED[9:]), (FRAMED[:-1],)])
async def test_nothing_of_a_call_waits_for_the_collector(bench, pieces):
    """Requests are large: circles of references would keep many of them."""
    gc.collect()
    # What other tests have left, whose servers are gone.
    before = of_calls()
    gc.disable()
    try:
        for _ in range(3):
            await Raw(bench).ask(*pieces)
        # The thread that ran it, and the loop's next turn, may have it for a moment more.
        until = time.monotonic() + 10
        while of_calls() - before and time.monotonic() < until:
            await in_its_loop(bench, lambda: None)
        left = of_calls() - before
    finally:
        gc.enable()
    assert not left


def of_calls() -> Counter[str]:
    # By type: of other libraries' objects not even `__class__` is to be looked at.
    kinds = [type(each) for each in gc.get_objects()]
    return Counter(kind.__name__ for kind in kinds if issubclass(kind, OF_A_CALL))


OF_A_CALL = (calls.UnaryCall, Stream, Flight)
