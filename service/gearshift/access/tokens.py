"""Bearer tokens: random, and kept as their SHA-256 only.

A plain hash is enough because a token is no password: 256 random bits cannot be guessed from it,
however fast it is computed. For the same reason a token is looked up by its hash instead of being
compared with each: what the time of the look-up could tell is something about the hash of what the
caller sent, which it knows, and nothing that would bring it nearer to the hash of a token.
"""

from __future__ import annotations

import hashlib
import secrets

PREFIX = "gs_"
"""So that scanners for leaked secrets, and people, know one when they see it."""

BYTES = 32

SHORTEST = 22
"""Characters: 128 bits in base64. Whatever is shorter is refused though its hash be known: it was
thought up, not drawn."""


def new_token() -> str:
    """A new one, of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(BYTES)


def digest_of(token: str) -> str:
    """The SHA-256 of a token in hexadecimal digits, as the access file has it."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
