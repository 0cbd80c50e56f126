"""`remote.toml`, the artifact of a variant that other servers run: where they are, and what the
model is called there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from gearshift.core.artifact import Artifact

FILES = ("ca_file", "certificate_file", "key_file", "token_file")
"""What is secret, or changes by itself, stands in files of its own, which are read again and again
while the server runs."""

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.\-]+):([0-9]{1,5})")


def _address(text: str) -> str:
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found[2]) < 65_536:
        raise ValueError(f"{text!r} is no HOST:PORT of a gRPC port, such as 'triton:8001'")
    return text


class Remote(BaseModel):
    """Its servers all have the model; each is given `slots` batches at a time, so that what waits
    waits here."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    servers: list[Annotated[str, AfterValidator(_address)]] = Field(min_length=1, max_length=64)
    model: str | None = Field(None, min_length=1, max_length=256)
    version: str = Field("", max_length=64)
    service_class: str | None = Field(None, min_length=1, max_length=256)
    """That of a gearshift there, whose own budget and floor hold for it as well."""
    slots: int = Field(2, ge=1, le=64)
    tls: bool = False
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    token_file: str | None = None

    def name(self, model: str) -> str:
        """What the model is called there."""
        return self.model or model


def read_remote(artifact: Artifact) -> Remote:
    """ValueError with a sentence for every mistake in it."""
    try:
        found = tomllib.loads(artifact.content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"is no TOML: {error}") from None
    try:
        remote = Remote.model_validate(found)
    except ValidationError as error:
        told = [
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}"
            for each in error.errors(include_url=False)
        ]
        raise ValueError(f"{'; '.join(told)}; expected servers = ['HOST:PORT', ...]") from None
    if len(set(remote.servers)) < len(remote.servers):
        raise ValueError("servers: one of them is there twice")
    if remote.ca_file is not None and not remote.tls:
        raise ValueError("ca_file: there is nothing to check without tls = true")
    if (remote.certificate_file is None) is not (remote.key_file is None):
        raise ValueError("certificate_file and key_file: one is of no use without the other")
    if remote.certificate_file is not None and not remote.tls:
        raise ValueError("certificate_file: nobody asks for it without tls = true")
    if remote.token_file is not None and not remote.tls:
        raise ValueError("token_file: a token is not sent without tls = true")
    for name in FILES:
        file = getattr(remote, name)
        if file is not None and not Path(file).is_absolute():
            raise ValueError(f"{name}: {file!r} is no absolute path")
    return remote


def model_of(artifact: Artifact) -> str:
    """The name of the model to which an artifact belongs: `<model>/<variant>/remote.toml`."""
    return Path(artifact.path).parent.parent.name
