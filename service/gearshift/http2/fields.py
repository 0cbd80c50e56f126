"""Whether header fields are well formed (RFC 9113, section 8): what is not must not be acted on."""

from __future__ import annotations

import re
from collections.abc import Sequence

Fields = Sequence[tuple[bytes, bytes]]

NEEDED = frozenset((b":method", b":scheme", b":path"))
KNOWN = NEEDED | {b":authority"}

UNSAID, IMPOSSIBLE = -1, -2
"""In place of a content-length."""

OF_ONE_CONNECTION = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)
"""Fields of HTTP/1.1 that say something about the connection, which here is said by frames."""

_NAME = re.compile(rb":?[!-9;-@\[-~]+")
"""Visible ASCII without capitals; a colon only in front."""
_LENGTH = re.compile(rb"[0-9]{1,18}")
_VALUE = re.compile(rb"(?:[^\0\r\n\t ](?:[^\0\r\n]*[^\0\r\n\t ])?)?")


def fault_of_request(fields: Fields) -> str:
    """What is wrong with the fields that begin a request; "" if nothing is."""
    begun: set[bytes] = set()
    for name, _ in fields:
        if not name.startswith(b":"):
            break
        if name in begun or name not in KNOWN:
            return f"pseudo-header {name!r} is unknown or there twice"
        begun.add(name)
    missing = NEEDED - begun
    if missing:
        return f"there is no {min(missing).decode()} in front"
    if not dict(fields)[b":path"]:
        return ":path is empty"
    return fault_of_trailers(fields[len(begun) :])


def promised(fields: Fields) -> int:
    """Bytes of DATA that a request says it has (content-length, section 8.1.1); UNSAID or
    IMPOSSIBLE. The same number may be there several times (RFC 9110, section 8.6)."""
    length = UNSAID
    for name, value in fields:
        if name == b"content-length":
            for part in value.split(b","):
                digits = part.strip(b" \t")
                said = int(digits) if _LENGTH.fullmatch(digits) else IMPOSSIBLE
                length = said if length in (UNSAID, said) else IMPOSSIBLE
    return length


def fault_of_trailers(fields: Fields) -> str:
    """What is wrong with the fields that end a request; "" if nothing is."""
    for name, value in fields:
        if name.startswith(b":"):
            return f"pseudo-header {name!r} is not in front of the request"
        if _NAME.fullmatch(name) is None:
            return f"no field can be named {name!r}"
        if _VALUE.fullmatch(value) is None:
            return f"the value of {name!r} has a line's end, a zero byte or blanks around it"
        if name in OF_ONE_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
            return f"{name.decode()} has no place in HTTP/2"
    return ""
