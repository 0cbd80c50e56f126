"""The DNS of the fleet, asked by a resolver that is not ours."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest
from loadtests.fleet.names import NAME, Names, answer

A, AAAA = 1, 28


def query(name: str, kind: int) -> bytes:
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split("."))
    return struct.pack(">6H", 77, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", kind, 1)


def read(told: bytes, asked: bytes) -> tuple[int, list[str]]:
    """The code, and the addresses."""
    number, flags, questions, answers, *_ = struct.unpack_from(">6H", told)
    assert (number, questions, flags >> 15) == (77, 1, 1)
    assert told[12 : len(asked)] == asked[12:]
    found = []
    for index in range(answers):
        at = len(asked) + 16 * index
        assert struct.unpack_from(">3H", told, at) == (0xC00C, A, 1)
        found.append(socket.inet_ntoa(told[at + 12 : at + 16]))
    return flags & 15, found


@pytest.mark.parametrize(
    ("name", "kind", "code", "addresses"),
    [
        (NAME, A, 0, ["127.0.0.1", "127.0.0.2"]),
        (NAME.upper(), A, 0, ["127.0.0.1", "127.0.0.2"]),
        (NAME, AAAA, 0, []),
        ("somebody.else", A, 3, []),
    ],
)
def test_a_name_stands_for_its_addresses(name, kind, code, addresses):
    asked = query(name, kind)
    assert read(answer(asked, ["127.0.0.1", "127.0.0.2"]), asked) == (code, addresses)


async def test_it_answers_what_is_true_now():
    names = Names()
    await names.listen()
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.connect(("127.0.0.1", names.port))
        asked = query(NAME, A)
        for addresses in (["127.0.0.1"], [], ["127.0.0.3", "127.0.0.1"]):
            names.stand_for(addresses)
            await loop.sock_sendall(asking, asked)
            told = await asyncio.wait_for(loop.sock_recv(asking, 512), 10)
            assert read(told, asked) == (0, addresses)
    names.close()
