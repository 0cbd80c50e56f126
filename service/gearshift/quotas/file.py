"""The quotas file: rates by client and by service class, in TOML.

identity = "x-tenant"            # optional: metadata that names who has not proved who he is

[default]                        # each client that is not named below
rows_per_second = 500
burst = 1000

[clients.checkout]
rows_per_second = 5000
burst = 10000

[models.fraud.classes.realtime]  # all clients together
rows_per_second = 8000
burst = 8000
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from gearshift.core.quota import NAMED, Limits, Rate
from gearshift.errors import ConfigurationInvalid

LARGEST = 1024 * 1024
"""Bytes of a quotas file."""

Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Rate(_Entry):
    rows_per_second: Positive
    burst: Positive | None = Field(None, description="By default as much as in one second.")

    def rate(self) -> Rate:
        burst = max(1.0, self.rows_per_second) if self.burst is None else self.burst
        return Rate(self.rows_per_second, burst)


class _Model(_Entry):
    classes: dict[Name, _Rate]


class _File(_Entry):
    identity: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_.-]{1,64}$")] = ""
    default: _Rate | None = None
    clients: dict[Name, _Rate] = {}
    models: dict[Name, _Model] = {}


@dataclass(frozen=True, slots=True)
class QuotaFile:
    """What the file says. `identity` is the metadata key by which callers are told apart who have
    not proved who they are, "" for none."""

    limits: Limits
    identity: str = ""


def read(path: Path) -> QuotaFile:
    """The quotas; ConfigurationInvalid with every mistake in the file."""
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError(f"is larger than {LARGEST} bytes; this cannot be right")
        told = tomllib.loads(content.decode())
    except OSError as error:
        raise ConfigurationInvalid(
            f"quotas file {path}: cannot be read: {(error.strerror or str(error)).lower()}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationInvalid(f"quotas file {path}: {error or 'nested too deeply'}") from None
    try:
        file = _File.model_validate(told)
    except ValidationError as error:
        lines = [_line(path, problem) for problem in error.errors()]
        raise ConfigurationInvalid("\n".join(lines)) from None
    classes = {
        (model, name): rate.rate()
        for model, entry in file.models.items()
        for name, rate in entry.classes.items()
    }
    if len(file.clients) + len(classes) > NAMED:
        raise ConfigurationInvalid(
            f"quotas file {path}: {len(file.clients)} clients and {len(classes)} classes; there may"
            f" be {NAMED} together, the others share the default's rate, each by itself"
        )
    default = None if file.default is None else file.default.rate()
    clients = {name: rate.rate() for name, rate in file.clients.items()}
    return QuotaFile(Limits(default=default, clients=clients, classes=classes), file.identity)


def unknown(file: QuotaFile, classes: Mapping[str, frozenset[str]]) -> list[str]:
    """What the file limits and no model has: `classes` by model. One sentence each."""
    found = []
    for model, name in sorted(file.limits.classes):
        if model not in classes:
            found.append(f"models.{model}: no such model is served")
        elif name not in classes[model]:
            known = ", ".join(sorted(classes[model]))
            found.append(
                f"models.{model}.classes.{name}: the model has no such class; it has {known}"
            )
    return found


def _line(path: Path, problem: Mapping[str, object]) -> str:
    place = problem["loc"]
    assert isinstance(place, tuple)
    key = ".".join(str(part) for part in place)
    if problem["type"] == "extra_forbidden":
        return f"quotas file {path}: {key}: unknown key"
    return f"quotas file {path}: {key}: {problem['msg']}, got {problem['input']!r}"
