"""The public keys that JSON Web Tokens are verified with (JWKS, RFC 7517): from a file, or fetched.

Fetching has a thread of its own; who asks for a key never waits. What was fetched is fetched anew
every few minutes, and when a token names a key that is not there, but not more often than once in
RATHER_NOT seconds: else whoever makes up names of keys would make this server knock at the issuer's
door. While the issuer does not answer, the keys that it had stay for a day.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.error import URLError
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

import jwt
import structlog

from gearshift.errors import ConfigurationInvalid

log = structlog.get_logger(__name__)

EVERY = 300.0
"""Seconds between two fetches."""

RATHER_NOT = 30.0
"""Seconds that lie between two fetches at least, whatever is asked for."""

KEPT = 86_400.0
"""Seconds that keys are believed which could not be fetched anew."""

WITHIN = 10.0
"""Seconds that the issuer has for its answer."""

LARGEST = 1024 * 1024
"""Bytes of a set of keys."""

WEAKEST_RSA = 2_048
"""Bits."""


class Keys(Protocol):
    """Where keys come from."""

    def find(self, kid: str | None) -> jwt.PyJWK | None:
        """The key of that id; without an id, the only one there is."""
        ...

    def coming(self) -> bool:
        """Whether a key that is not there may be in a moment: it is being fetched, from now on if
        not before."""
        ...

    def close(self) -> None:
        """No more fetches."""
        ...


def read_keys(text: bytes) -> Mapping[str, jwt.PyJWK]:
    """The usable keys of a JWKS by their ids, "" for one without. ValueError if it is none."""
    try:
        told = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(told, dict) or not isinstance(told.get("keys"), list):
        raise ValueError("it is no set of keys")
    found: dict[str, jwt.PyJWK] = {}
    for each in told["keys"]:
        if (
            not isinstance(each, dict)
            or each.get("kty") == "oct"
            or each.get("use", "sig") != "sig"
        ):
            continue
        try:
            key = jwt.PyJWK(each)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue  # of a kind that is not known here; the others are none the worse
        if getattr(key.key, "key_size", WEAKEST_RSA) < WEAKEST_RSA and each.get("kty") == "RSA":
            continue
        found[str(each.get("kid", ""))] = key
    if not found:
        raise ValueError("there is no public key for signatures in it")
    return found


def _of(keys: Mapping[str, jwt.PyJWK], kid: str | None) -> jwt.PyJWK | None:
    if kid is None:
        return next(iter(keys.values())) if len(keys) == 1 else None
    return keys.get(kid)


class FileKeys:
    """Keys of a file, as it is now."""

    def __init__(self, path: Path) -> None:
        """ConfigurationInvalid if they cannot be read."""
        try:
            self._keys = read_keys(path.read_bytes())
        except OSError as error:
            raise ConfigurationInvalid(f"keys in {path}: {error.strerror}") from None
        except ValueError as error:
            raise ConfigurationInvalid(f"keys in {path}: {error}") from None

    def find(self, kid: str | None) -> jwt.PyJWK | None:
        return _of(self._keys, kid)

    def coming(self) -> bool:
        return False

    def close(self) -> None:
        """There is nothing to close."""


class FetchedKeys:
    """Keys behind an https URL. The certificate there is verified by `authority`, a file, or else
    by the system's authorities."""

    def __init__(self, url: str, authority: Path | None) -> None:
        """ConfigurationInvalid if the authority's file cannot be read."""
        self._url = url
        self._opener = _opener(authority)
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched = self._tried = -float("inf")
        self._wanted = threading.Event()
        self._wanted.set()
        self._closed = False
        threading.Thread(target=self._go_on, name="gearshift-jwks", daemon=True).start()

    def find(self, kid: str | None) -> jwt.PyJWK | None:
        if time.monotonic() - self._fetched > KEPT:
            return None
        return _of(self._keys, kid)

    def coming(self) -> bool:
        if self._wanted.is_set():
            return True
        if time.monotonic() - self._tried < RATHER_NOT:
            # Without any keys nobody can be told that a token is wrong.
            return not self._keys
        self._wanted.set()
        return True

    def close(self) -> None:
        self._closed = True
        self._wanted.set()

    def _go_on(self) -> None:
        while not self._closed:
            self._wanted.wait(EVERY if self._keys else RATHER_NOT)
            if self._closed:
                return
            self._tried = time.monotonic()
            try:
                self._keys = read_keys(_fetched(self._opener, self._url))
                self._fetched = time.monotonic()
            except Exception as error:  # noqa: BLE001 - whatever an issuer sends, this goes on
                log.error("the issuer's keys cannot be fetched", url=self._url, reason=_why(error))
            self._wanted.clear()


def _opener(authority: Path | None) -> OpenerDirector:
    try:
        context = ssl.create_default_context(cafile=None if authority is None else str(authority))
    except OSError as error:
        raise ConfigurationInvalid(
            f"jwks_ca {authority}: {error.strerror or 'no certificates in it'}"
        ) from None
    return build_opener(HTTPSHandler(context=context), _NoRedirects())


class _NoRedirects(HTTPRedirectHandler):
    """Where keys come from is configured, and not to be changed by whoever answers."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


def _fetched(opener: OpenerDirector, url: str) -> bytes:
    """Bounded in time, also if it comes byte by byte."""
    until = time.monotonic() + WITHIN
    parts: list[bytes] = []
    size = 0
    with opener.open(url, timeout=WITHIN) as answer:
        while part := answer.read1(65_536):
            parts.append(part)
            size += len(part)
            if size > LARGEST:
                raise ValueError(f"it is above {LARGEST} bytes")
            if time.monotonic() > until:
                raise TimeoutError(f"it was not complete after {WITHIN:g} s")
    return b"".join(parts)


def _why(error: Exception) -> str:
    return str(error.reason) if isinstance(error, URLError) else str(error)
