"""The DNS of a headless Service: a name that stands for the addresses of the pods that are ready.

After RFC 1035, sections 4.1 and 3.4.1; only what resolvers ask of it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable
from typing import Any

NAME = "gearshift-headless.default.svc.cluster.local"
"""As it stands in deploy/envoy/envoy.yaml."""

HEADER = struct.Struct(">6H")
ANSWER = struct.Struct(">3HIH4s")
AUTHORITATIVE, NO_SUCH_NAME = 0x8400, 0x8403
A, INTERNET = 1, 1
TO_THE_NAME = 0xC00C
"""A pointer to where the question has the name."""
TTL = 0
"""Seconds; the DNS of a cluster says 5 or 30, and who asks again sooner gets a new answer."""


class Names(asyncio.DatagramProtocol):
    """Answers for NAME with `addresses`, for any other name that there is none."""

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ()
        self.port = 0
        self._transport: Any = None

    async def listen(self) -> None:
        await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )

    def stand_for(self, addresses: Iterable[str]) -> None:
        self.addresses = tuple(addresses)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(answer(data, self.addresses), addr)


def answer(query: bytes, addresses: Iterable[str]) -> bytes:
    """The answer to a query of one question; AAAA and others have none."""
    number = HEADER.unpack_from(query)[0]
    at, labels = HEADER.size, []
    while size := query[at]:
        labels.append(query[at + 1 : at + 1 + size].decode("ascii").lower())
        at += 1 + size
    kind, _ = struct.unpack_from(">2H", query, at + 1)
    question = query[HEADER.size : at + 5]
    if ".".join(labels) != NAME:
        return HEADER.pack(number, NO_SUCH_NAME, 1, 0, 0, 0) + question
    found = [
        ANSWER.pack(TO_THE_NAME, A, INTERNET, TTL, 4, socket.inet_aton(address))
        for address in (addresses if kind == A else ())
    ]
    return HEADER.pack(number, AUTHORITATIVE, 1, len(found), 0, 0) + question + b"".join(found)
