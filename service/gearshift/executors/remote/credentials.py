"""What a server is shown, and what it must show: read from files that may change meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import grpc

from gearshift.executors.remote.intent import Remote

LARGEST_TOKEN = 16_384
"""Bytes. gRPC servers take heads of 8 or 16 KiB as they come."""


class Files(NamedTuple):
    """Their content: who signs the server's certificate, our own, and its key; None for what is
    not named."""

    ca: bytes | None
    certificate: bytes | None
    key: bytes | None

    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)


def files(remote: Remote) -> Files:
    """ValueError names the file that cannot be read."""
    return Files(
        _read("ca_file", remote.ca_file),
        _read("certificate_file", remote.certificate_file),
        _read("key_file", remote.key_file),
    )


def token(remote: Remote) -> str | None:
    """ValueError names the file, and never quotes it."""
    content = _read("token_file", remote.token_file)
    if content is None:
        return None
    found = content.decode("ascii", "replace").strip()
    if not found or len(found) > LARGEST_TOKEN or not all("!" <= each <= "~" for each in found):
        raise ValueError(
            f"token_file: {remote.token_file} holds no token: one line of at most {LARGEST_TOKEN}"
            " printable characters without blanks is expected"
        )
    return found


def _read(name: str, file: str | None) -> bytes | None:
    if file is None:
        return None
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ValueError(
            f"{name}: {file} cannot be read: {error.strerror or type(error).__name__}"
        ) from None
