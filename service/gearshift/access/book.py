"""The access file as it is asked: from a proof to the rights of a client."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from gearshift.access.schema import AccessFile, Jwt
from gearshift.core.rights import Rights
from gearshift.errors import ConfigurationInvalid

LARGEST = 4 * 1024 * 1024
"""Bytes of an access file."""


@dataclass(frozen=True, slots=True)
class Book:
    """Rights by the SHA-256 of a token, by the name in a certificate, by the subject of a JSON Web
    Token; and whose JSON Web Tokens are believed."""

    tokens: Mapping[str, Rights] = field(repr=False)
    certificates: Mapping[str, Rights]
    subjects: Mapping[str, Rights]
    jwt: Jwt | None


def read_book(path: Path) -> Book:
    """ConfigurationInvalid with every mistake in the file; never with what stands in it."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigurationInvalid(f"access file {path}: {error.strerror}") from None
    if len(text) > LARGEST:
        raise ConfigurationInvalid(f"access file {path}: above {LARGEST} bytes")
    try:
        told = AccessFile.model_validate(tomllib.loads(text.decode()))
    except RecursionError:
        raise ConfigurationInvalid(f"access file {path}: it is nested too deeply") from None
    except ValidationError as error:
        lines = [
            f"access file {path}: {'.'.join(map(str, problem['loc'])) or 'the whole'}:"
            f" {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigurationInvalid("\n".join(lines)) from None
    except ValueError as error:
        raise ConfigurationInvalid(f"access file {path}: {_line_only(error)}") from None
    return _book(told, path.parent)


def _line_only(error: ValueError) -> str:
    """Where a file is no TOML or no UTF-8. Without the text there."""
    if isinstance(error, tomllib.TOMLDecodeError):
        return f"no TOML: {error}"
    return "not in UTF-8"


def _book(told: AccessFile, folder: Path) -> Book:
    tokens: dict[str, Rights] = {}
    certificates: dict[str, Rights] = {}
    subjects: dict[str, Rights] = {}
    for client in told.clients:
        rights = Rights(client.name, client.may, client.models)
        tokens |= dict.fromkeys(client.tokens_sha256, rights)
        certificates |= dict.fromkeys(client.certificates, rights)
        subjects |= dict.fromkeys(client.subjects, rights)
    jwt = told.jwt
    if jwt is not None:
        # Names of files count from where they are written.
        places = {
            name: folder / place
            for name in ("jwks_file", "jwks_ca")
            if (place := getattr(jwt, name)) is not None
        }
        jwt = jwt.model_copy(update=places)
    return Book(tokens, certificates, subjects, jwt)
