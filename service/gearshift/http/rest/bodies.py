"""Bodies of requests: unpacked, bounded, and how much of them is held."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request

from gearshift.http.rest.asking import Mistake

BODIES = 2
"""Times `most`: bytes of all bodies that are held at a time."""


class Bodies:
    """`most`: bytes of one, unpacked."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    @contextmanager
    def held(self, request: Request) -> Iterator[None]:
        """Until the block ends what is read of this request is held."""
        request.state.held = 0
        try:
            yield
        finally:
            self._held -= request.state.held

    async def read(self, request: Request) -> bytes:
        """The whole body, unpacked. Mistake if it cannot be."""
        parts: list[bytes] = []
        async for part in request.stream():
            self._hold(request, len(part))
            parts.append(part)
        body = b"".join(parts)
        encoding = request.headers.get("content-encoding", "identity").lower()
        if encoding == "identity":
            return body
        if encoding not in ("gzip", "deflate"):
            raise Mistake(f"Content-Encoding {encoding[:50]!r} is not known here", 415)
        found = await asyncio.to_thread(_unpacked, body, encoding, self._most)
        self._hold(request, max(0, len(found) - len(body)))
        return found

    async def object(self, request: Request) -> Mapping[str, Any]:
        """An object of JSON; an empty body is an empty one. Mistake if it is none."""
        body = await self.read(request)
        try:
            found = json.loads(body) if body else {}
        except (ValueError, RecursionError) as error:
            raise Mistake(f"the request is no JSON: {error}") from None
        if not isinstance(found, dict):
            raise Mistake("the request must be an object")
        return found

    def _hold(self, request: Request, size: int) -> None:
        """So many bytes more of a body are kept until it is answered."""
        if request.state.held + size > self._most:
            raise Mistake(f"the body is larger than {self._most} bytes (max_message_bytes)", 413)
        if self._held + size > BODIES * self._most:
            raise Mistake("bodies of other requests take all the room there is; try again", 429)
        request.state.held += size
        self._held += size


def _unpacked(body: bytes, encoding: str, most: int) -> bytes:
    reader = zlib.decompressobj(16 + zlib.MAX_WBITS if encoding == "gzip" else zlib.MAX_WBITS)
    try:
        found = reader.decompress(body, most + 1)
    except zlib.error as error:
        raise Mistake(f"the body is no {encoding}: {error}") from None
    if len(found) > most:
        raise Mistake(f"the body is larger than {most} bytes (max_message_bytes)", 413)
    if not reader.eof:
        raise Mistake(f"the body is cut short: it is no whole {encoding}")
    return found
