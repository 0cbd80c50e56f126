"""gRPC over HTTP/2 as bytes: what a call's headers say, how messages and endings are written.

After the gRPC project's PROTOCOL-HTTP2 document.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import grpc

from gearshift.http2.header_blocks import write

Metadata = Sequence[tuple[str, str | bytes]]

PREFIXED = struct.Struct(">BL")
"""What is before each message: is it compressed, and its length."""
PREFIX = PREFIXED.size

UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}

LONGEST_TEXT = 4_096
"""Characters of a status message; more would not fit into what clients accept as trailers."""

ATTEMPTS = b"grpc-previous-rpc-attempts"
"""What gRPC's retries send along (gRPC proposal A6)."""

ENCODINGS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}

OK_HEAD = write(
    (
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-accept-encoding", b"identity,deflate,gzip"),
    )
)
OK_TRAILERS = write(((b"grpc-status", b"0"),))
NOT_GRPC = write(((b":status", b"415"),))


class WireError(Exception):
    """A call or message that cannot be read: with the gRPC status that it ends with."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Call:
    """What the headers of a call say. `timeout` in seconds, infinite without one; `encoding`
    of compressed messages, empty for none; `fault` if it cannot be answered; `attempts` is
    how often gRPC's retries have sent it before."""

    path: str
    timeout: float
    encoding: bytes
    metadata: tuple[tuple[str, str | bytes], ...]
    grpc: bool
    fault: WireError | None = None
    attempts: int = 0


def read_call(fields: Iterable[tuple[bytes, bytes]]) -> Call:
    """The meaning of a request's header fields; pure, so that it can be remembered."""
    path, timeout, encoding, grpc_call = "", math.inf, b"", False
    metadata: list[tuple[str, str | bytes]] = []
    fault: WireError | None = None
    attempts = 0
    for name, value in fields:
        if name == b":path":
            path = value.decode("latin-1")
        elif name == b"content-type":
            grpc_call = value.startswith(b"application/grpc")
        elif name == b"grpc-timeout":
            try:
                timeout = read_timeout(value)
            except WireError as error:
                fault = error
        elif name == b"grpc-encoding":
            if value in ENCODINGS:
                encoding = value
            elif value != b"identity":
                fault = WireError(
                    grpc.StatusCode.UNIMPLEMENTED,
                    f"grpc-encoding {value.decode('latin-1')!r} is not known here; there are"
                    f" identity, deflate and gzip",
                )
        elif name == ATTEMPTS:
            attempts = _attempts(value)
        elif not name.startswith(b":"):
            metadata.append(_metadata(name, value))
    return Call(path, timeout, encoding, tuple(metadata), grpc_call, fault, attempts)


def read_timeout(value: bytes) -> float:
    """Seconds of a grpc-timeout: up to eight digits and a unit."""
    text = value.decode("latin-1")
    digits, unit = text[:-1], UNITS.get(text[-1:])
    if unit is None or not (digits.isascii() and digits.isdigit()) or len(digits) > 8:
        raise WireError(
            grpc.StatusCode.INTERNAL,
            f"grpc-timeout {text!r} is not up to eight digits and one of {', '.join(UNITS)}",
        )
    return int(digits) * unit


def _attempts(value: bytes) -> int:
    """How often gRPC's own retries have sent this call before; 0 where that is no number."""
    return int(value) if value.isdigit() and len(value) <= 9 else 0


def _metadata(name: bytes, value: bytes) -> tuple[str, str | bytes]:
    key = name.decode("latin-1")
    if not key.endswith("-bin"):
        return key, value.decode("latin-1")
    try:
        return key, base64.b64decode(value + b"=" * (-len(value) % 4))
    except ValueError:
        return key, value


def size_of(data: bytes | bytearray, at: int = 0) -> int:
    """What the prefix that begins at `at` says of its message's size, in bytes."""
    return int.from_bytes(data[at + 1 : at + PREFIX], "big")


def framed(message: bytes) -> bytes:
    """A message as it travels, not compressed."""
    return PREFIXED.pack(0, len(message)) + message


def decompressed(message: bytes, encoding: bytes, limit: int) -> bytes:
    """WireError if it is damaged, or larger than `limit` bytes when it is whole."""
    window = ENCODINGS.get(encoding)
    if window is None:
        raise WireError(
            grpc.StatusCode.INTERNAL, "a message is compressed, but grpc-encoding is not given"
        )
    reader = zlib.decompressobj(window)
    try:
        found = reader.decompress(message, limit + 1)
    except zlib.error as error:
        raise WireError(
            grpc.StatusCode.INTERNAL, f"a {encoding.decode()} message is damaged: {error}"
        ) from None
    if len(found) > limit:
        raise too_large(limit)
    if not reader.eof:
        raise WireError(grpc.StatusCode.INTERNAL, f"a {encoding.decode()} message is cut short")
    return found


def too_large(limit: int) -> WireError:
    return WireError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, f"a message is above the limit of {limit} bytes"
    )


def trailers(code: grpc.StatusCode, text: str, metadata: Metadata = ()) -> bytes:
    """The header block that ends a call."""
    if code is grpc.StatusCode.OK and not metadata:
        return OK_TRAILERS
    return write(_ending(code, text, metadata))


def trailers_only(code: grpc.StatusCode, text: str, metadata: Metadata = ()) -> bytes:
    """The header block of an answer that is nothing but its ending."""
    head = ((b":status", b"200"), (b"content-type", b"application/grpc"))
    return write((*head, *_ending(code, text, metadata)))


def _ending(code: grpc.StatusCode, text: str, metadata: Metadata) -> Iterable[tuple[bytes, bytes]]:
    yield b"grpc-status", str(code.value[0]).encode()
    if text:
        # Spaces and most punctuation travel as they are, the rest percent-encoded.
        safe = quote(text[:LONGEST_TEXT], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")
        yield b"grpc-message", safe.encode()
    for name, value in metadata:
        if name.endswith("-bin"):
            raw = value if isinstance(value, bytes) else value.encode()
            yield name.encode(), base64.b64encode(raw).rstrip(b"=")
        else:
            yield name.encode(), value.encode() if isinstance(value, str) else value
