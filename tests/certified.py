"""Authorities, certificates and tokens for tests; made anew each time, valid nowhere else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import jwt
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

ISSUER, AUDIENCE, KID = "https://issuer.example", "gearshift", "first"
NAME = "gears.example"


class Certified:
    """Files in `folder`: of an authority, of the server, and of clients by their names."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._authority = trustme.CA()
        self.ca = folder / "ca.crt"
        self._authority.cert_pem.write_to_path(self.ca)
        self.certificate, self.key = self.issue("localhost", "127.0.0.1", NAME)

    def issue(
        self, *names: str, common_name: str | None = None, valid: timedelta = timedelta(days=7)
    ) -> tuple[Path, Path]:
        """Certificate and key; one that is `valid` for less than nothing has expired."""
        until = datetime.now(UTC) + valid
        made = self._authority.issue_cert(
            *names,
            common_name=common_name,
            not_before=min(datetime.now(UTC), until) - timedelta(days=1),
            not_after=until,
        )
        stem = (names or (common_name or "nobody",))[0].replace("/", "_").replace(":", "_")
        certificate, key = self.folder / f"{stem}.crt", self.folder / f"{stem}.key"
        certificate.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
        made.private_key_pem.write_to_path(key)
        return certificate, key


def part(told: object) -> str:
    """Of a JSON Web Token."""
    return base64.urlsafe_b64encode(json.dumps(told).encode()).rstrip(b"=").decode()


@lru_cache
def _key(kid: str) -> rsa.RSAPrivateKey:
    """The same whenever it is asked for by the same name: making one takes long."""
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


class Issuer:
    """Signs JSON Web Tokens; its public key is in a file."""

    def __init__(self, folder: Path, kid: str = KID) -> None:
        self.kid = kid
        self.key = _key(kid)
        public = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        self.jwk: dict[str, Any] = {**public, "kid": kid, "use": "sig", "alg": "RS256"}
        self.public_pem = self.key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        self.jwks = folder / "jwks.json"

    def publish(self, *others: Issuer) -> None:
        keys = [self.jwk, *(other.jwk for other in others)]
        self.jwks.write_text(json.dumps({"keys": keys}))

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Sound ones, but for the changes; None leaves one out."""
        told = {"iss": ISSUER, "aud": AUDIENCE, "sub": "batch", "exp": time.time() + 600}
        return {name: value for name, value in (told | changes).items() if value is not None}

    def sign(self, **changes: Any) -> str:
        headers = {"kid": self.kid}
        return jwt.encode(self.claims(**changes), self.key, algorithm="RS256", headers=headers)

    def wrong(self, other: Issuer) -> dict[str, str]:
        """JSON Web Tokens that must not be believed, by what is wrong with them."""
        sound = self.sign()
        head, body, signature = sound.split(".")
        hmac_key = self.public_pem
        # By hand, because PyJWT refuses to sign with a public key.
        confused = f"{part({'alg': 'HS256', 'kid': KID, 'typ': 'JWT'})}.{body}"
        mac = hmac.new(hmac_key, confused.encode(), hashlib.sha256).digest()
        return {
            "expired": self.sign(exp=time.time() - 60),
            "not yet": self.sign(nbf=time.time() + 600),
            "no expiry": self.sign(exp=None),
            "wrong issuer": self.sign(iss="https://other.example"),
            "no issuer": self.sign(iss=None),
            "wrong audience": self.sign(aud="other"),
            "no audience": self.sign(aud=None),
            "no subject": self.sign(sub=None),
            "unknown subject": self.sign(sub="somebody"),
            "subject of another kind": self.sign(sub="ops"),
            "alg none": jwt.encode(self.claims(), None, algorithm="none"),
            "alg none with kid": f"{part({'alg': 'none', 'kid': KID})}.{body}.",
            "signed with the public key": (
                f"{confused}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
            ),
            "another key": other.sign(),
            "another key by the same name": jwt.encode(
                self.claims(), other.key, algorithm="RS256", headers={"kid": KID}
            ),
            "its own key": jwt.encode(
                self.claims(), other.key, algorithm="RS256", headers={"jwk": other.jwk, "kid": KID}
            ),
            "an algorithm that is not allowed": jwt.encode(
                self.claims(), self.key, algorithm="RS512", headers={"kid": KID}
            ),
            "no signature": f"{head}.{body}.",
            "changed": f"{head}.{part(self.claims(sub='batch', exp=9e9))}.{signature}",
            "a strange expiry": self.sign(exp="soon"),
            "kid of a wrong kind": f"{part({'alg': 'RS256', 'kid': [1]})}.{body}.{signature}",
            "unknown critical extension": jwt.encode(
                self.claims(),
                self.key,
                algorithm="RS256",
                headers={"kid": KID, "crit": ["x"], "x": 1},
            ),
        }
