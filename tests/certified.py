"""Authorities, certificates and tokens for tests; made anew each time, valid nowhere else."""

from __future__ import annotations

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
