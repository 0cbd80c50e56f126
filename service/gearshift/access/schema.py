"""The access file as it may be written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from gearshift.core.rights import ANONYMOUS, Group

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Only those that verify with a public key: who can check a token cannot make one."""


def _named(name: str) -> str:
    if not re.fullmatch(r"[\w.:@/-]{1,64}", name, re.ASCII):
        raise ValueError("a name has 1 to 64 letters, digits and . : @ / _ -")
    if name == ANONYMOUS:
        raise ValueError(f"{ANONYMOUS!r} is the name of those who have proved nothing")
    return name


def _hashed(digest: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        # Not shown: it may be the token itself.
        raise ValueError("a SHA-256 has 64 hexadecimal digits; `gearshift token` prints one")
    return digest.lower()


def _secure(url: str) -> str:
    if not url.startswith("https://"):
        raise ValueError("keys are fetched over https only")
    return url


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Client(_Table):
    """One client: how it proves who it is, and what it may do."""

    name: Annotated[str, AfterValidator(_named)]
    tokens_sha256: list[Annotated[str, AfterValidator(_hashed)]] = []
    certificates: list[Annotated[str, Field(min_length=1)]] = []
    subjects: list[Annotated[str, Field(min_length=1)]] = []
    may: list[Literal[Group.INFER, Group.FEEDBACK, Group.OBSERVE, Group.CONTROL]]
    models: list[Annotated[str, Field(min_length=1)]]

    @model_validator(mode="after")
    def _provable(self) -> Client:
        if not (self.tokens_sha256 or self.certificates or self.subjects):
            raise ValueError(
                f"client {self.name!r} has nothing to prove who it is with: give it tokens_sha256,"
                " certificates or subjects"
            )
        return self


class Jwt(_Table):
    """Whose JSON Web Tokens are believed."""

    issuer: Annotated[str, Field(min_length=1)]
    audience: Annotated[str, Field(min_length=1)]
    algorithms: Annotated[list[Algorithm], Field(min_length=1)]
    jwks_file: Path | None = None
    jwks_url: Annotated[str, AfterValidator(_secure)] | None = None
    jwks_ca: Path | None = None
    leeway_seconds: Annotated[float, Field(ge=0, le=300)] = 30.0

    @model_validator(mode="after")
    def _one_source(self) -> Jwt:
        if (self.jwks_file is None) == (self.jwks_url is None):
            raise ValueError("give either jwks_file or jwks_url")
        return self


class AccessFile(_Table):
    """The whole file."""

    clients: Annotated[list[Client], Field(min_length=1)]
    jwt: Jwt | None = None

    @model_validator(mode="after")
    def _unambiguous(self) -> AccessFile:
        for field in ("tokens_sha256", "certificates", "subjects"):
            seen: dict[str, str] = {}
            for client in self.clients:
                for each in getattr(client, field):
                    if each in seen:
                        raise ValueError(
                            f"{field}: clients {seen[each]!r} and {client.name!r} have one of them"
                            " in common"
                        )
                    seen[each] = client.name
        names = [client.name for client in self.clients]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"several clients are named {', '.join(twice)}")
        if self.jwt is None and any(client.subjects for client in self.clients):
            raise ValueError("subjects are those of JSON Web Tokens, which need a [jwt] table")
        return self
