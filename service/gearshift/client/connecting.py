"""What both clients say of themselves: where to, with which credentials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import grpc

OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


class Access(TypedDict, total=False):
    """How a server is spoken to. `ca`, `certificate` and `key` are PEM files; `metadata` goes with
    each call."""

    tls: bool
    ca: Path
    certificate: Path
    key: Path
    token: str
    metadata: Sequence[tuple[str, str]]


def credentials_of(access: Access) -> grpc.ChannelCredentials | None:
    """None without TLS. ValueError for combinations that cannot be meant."""
    files = [access.get("ca"), access.get("key"), access.get("certificate")]
    if not access.get("tls", False):
        if any(files):
            raise ValueError("ca, certificate and key are for TLS; say tls=True")
        if "token" in access:
            raise ValueError("a token would be sent for all to read; say tls=True")
        return None
    if (files[1] is None) != (files[2] is None):
        raise ValueError("certificate and key belong together")
    read = [None if path is None else Path(path).read_bytes() for path in files]
    return grpc.ssl_channel_credentials(*read)


def metadata_of(access: Access) -> Sequence[tuple[str, str]]:
    """What goes with each call."""
    told = list(access.get("metadata", ()))
    if "token" in access:
        told.append(("authorization", f"Bearer {access['token']}"))
    return told
