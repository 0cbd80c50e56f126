"""The names in a client's certificate."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any


def names_of(
    certificate: Mapping[str, Any] | None, clock: Callable[[], float] = time.time
) -> tuple[str, ...]:
    """From what `ssl.SSLSocket.getpeercert` says: the URIs among the alternative names (a SPIFFE
    id is one), then its DNS names; the common name only where there is neither (RFC 9525, section
    2). None where no certificate was verified, or where it has expired since."""
    if not certificate:
        return ()
    until = certificate.get("notAfter")
    if until is not None and clock() > ssl.cert_time_to_seconds(until):
        return ()
    alternative = certificate.get("subjectAltName", ())
    names = [value for kind, value in alternative if kind == "URI"]
    names += [value for kind, value in alternative if kind == "DNS"]
    if not names:
        parts = [part for group in certificate.get("subject", ()) for part in group]
        names = [value for kind, value in parts if kind == "commonName"]
    return tuple(names)
