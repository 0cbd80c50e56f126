"""Who a caller is, by what it shows: the adapter behind `ports.Access`."""

from __future__ import annotations

import base64
import hashlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gearshift.access.book import Book, read_book
from gearshift.access.jwts import looks_like_one, verified
from gearshift.access.keys import FetchedKeys, FileKeys, Keys
from gearshift.access.schema import Jwt
from gearshift.access.tokens import SHORTEST, digest_of
from gearshift.core.rights import Rights
from gearshift.errors import Unauthenticated

MOST_REMEMBERED = 4_096
"""Credentials whose answer is remembered."""

NOTHING_SHOWN = (
    "this server asks who calls: send the metadata `authorization: Bearer TOKEN`, or use a client"
    " certificate that it knows"
)


class _State:
    """One reading of the file. Replaced as a whole, so that no answer of an old one is remembered
    for a new one."""

    __slots__ = ("book", "keys", "known")

    def __init__(self, book: Book, keys: Keys | None) -> None:
        self.book = book
        self.keys = keys
        self.known: dict[bytes, tuple[Rights, float]] = {}
        """By the SHA-256 of what was shown: the rights, and until when they hold. The secret
        itself is kept nowhere."""


class Guard:
    """Asks the access file at `path`. `clock` gives the time as `time.time` does."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """ConfigurationInvalid with every mistake in the file."""
        self._path = path
        self._clock = clock
        self._reading = threading.Lock()
        book = read_book(path)
        self._state = _State(book, _keys_of(book.jwt))

    @property
    def files(self) -> Sequence[Path]:
        """What is read: if one of them changes, `reload`."""
        jwt = self._state.book.jwt
        more = () if jwt is None else (jwt.jwks_file, jwt.jwks_ca)
        return [self._path, *(path for path in more if path is not None)]

    def reload(self) -> None:
        """Read the file anew. ConfigurationInvalid if that fails, and nothing has changed then."""
        with self._reading:
            before = self._state
            book = read_book(self._path)
            fetched = isinstance(before.keys, FetchedKeys) and book.jwt == before.book.jwt
            self._state = _State(book, before.keys if fetched else _keys_of(book.jwt))
            if not fetched and before.keys is not None:
                before.keys.close()

    def close(self) -> None:
        """No more keys are fetched."""
        if self._state.keys is not None:
            self._state.keys.close()

    def admit(self, authorization: str, certificate: Sequence[str]) -> Rights:
        """As in `ports.Access`. A header decides where there is one, be there a certificate or
        not: who shows a wrong token is not let in as somebody else."""
        state = self._state
        if not authorization:
            for name in certificate:
                rights = state.book.certificates.get(name)
                if rights is not None:
                    return rights
            raise Unauthenticated(
                "the client certificate is of nobody who is known here"
                if certificate
                else NOTHING_SHOWN
            )
        shown = hashlib.sha256(authorization.encode(errors="surrogatepass")).digest()
        known = state.known.get(shown)
        if known is not None and self._clock() < known[1]:
            return known[0]
        rights, until = _proved(state, authorization)
        if len(state.known) >= MOST_REMEMBERED:
            state.known.clear()
        state.known[shown] = rights, until
        return rights


def _keys_of(jwt: Jwt | None) -> Keys | None:
    if jwt is None:
        return None
    if jwt.jwks_file is not None:
        return FileKeys(jwt.jwks_file)
    assert jwt.jwks_url is not None
    return FetchedKeys(jwt.jwks_url, jwt.jwks_ca)


def _proved(state: _State, authorization: str) -> tuple[Rights, float]:
    scheme, _, shown = authorization.partition(" ")
    kind = scheme.lower()
    if kind == "bearer":
        return _of_token(state, shown.strip())
    if kind == "basic":
        # What browsers ask people for: the client's name, and its token as the password.
        try:
            name, _, token = base64.b64decode(shown.strip(), validate=True).decode().partition(":")
        except ValueError:
            raise Unauthenticated("the authorization cannot be read") from None
        rights, until = _of_token(state, token)
        if rights.client != name:
            raise Unauthenticated("the token is not known here")
        return rights, until
    raise Unauthenticated("the authorization is neither Bearer nor Basic")


def _of_token(state: _State, token: str) -> tuple[Rights, float]:
    """The rights and until when they hold, in seconds of `time.time`."""
    book = state.book
    if len(token) >= SHORTEST:
        rights = book.tokens.get(digest_of(token))
        if rights is not None:
            return rights, math.inf
        if book.jwt is not None and state.keys is not None and looks_like_one(token):
            claims = verified(token, book.jwt, state.keys)
            rights = book.subjects.get(claims.subject)
            if rights is None:
                raise Unauthenticated("the token's subject is of nobody who is known here")
            return rights, claims.until
    raise Unauthenticated("the token is not known here")
