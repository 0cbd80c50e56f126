"""JSON Web Tokens (RFC 7519), verified by PyJWT: signature, issuer, audience, times."""

from __future__ import annotations

from typing import NamedTuple

import jwt

from gearshift.access.keys import Keys
from gearshift.access.schema import Jwt
from gearshift.errors import NotReady, Unauthenticated

LONGEST = 16 * 1024
"""Characters of a token."""

_TOLD: tuple[tuple[type[jwt.PyJWTError], str], ...] = (
    (jwt.ExpiredSignatureError, "the token has expired"),
    (jwt.ImmatureSignatureError, "the token is not valid yet"),
    (jwt.InvalidAudienceError, "the token is for another audience"),
    (jwt.InvalidIssuerError, "the token is of another issuer"),
)
"""What the holder of a token may know of why it is refused; the rest is told to nobody."""


class Claims(NamedTuple):
    """Whose token it is, and until when (seconds of `time.time`)."""

    subject: str
    until: float


def looks_like_one(token: str) -> bool:
    """Whether it has the form of a JSON Web Token."""
    return token.count(".") == 2


def verified(token: str, trusted: Jwt, keys: Keys) -> Claims:
    """Unauthenticated if the token does not hold, NotReady while its key is being fetched.

    Which algorithms are allowed, and where keys come from, is said by the configuration alone:
    the token's own header chooses among its keys by their ids, and nothing else (RFC 8725).
    """
    invalid = Unauthenticated("the token is not valid")
    if len(token) > LONGEST:
        raise invalid
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise invalid from None
    kid = header.get("kid")
    if header.get("alg") not in trusted.algorithms or not isinstance(kid, str | None):
        raise invalid
    key = keys.find(kid)
    if key is None:
        if keys.coming():
            raise NotReady("the keys of the token's issuer are being fetched; try again shortly")
        raise invalid
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=list(trusted.algorithms),
            audience=trusted.audience,
            issuer=trusted.issuer,
            leeway=trusted.leeway_seconds,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
        return Claims(str(claims["sub"]), float(claims["exp"]) + trusted.leeway_seconds)
    except jwt.PyJWTError as error:
        for kind, text in _TOLD:
            if isinstance(error, kind):
                raise Unauthenticated(text) from None
        raise invalid from None
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise invalid from None
