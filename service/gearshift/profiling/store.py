"""Profiles on disk: measured once on a machine, reused until something changes.

`<state_dir>/profiles/<hardware id>/<model>/<variant>.json`. A file that is stale or broken
is as good as none: it costs seconds at the start, never a failure.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gearshift.core.catalog import Model, Variant
from gearshift.core.profile import LatencyPoint
from gearshift.profiling.hardware import Hardware
from gearshift.profiling.measure import batch_sizes

log = structlog.get_logger(__name__)

SCHEMA = 2
"""Version of the file; raised when a field changes its meaning."""

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Point(_Strict):
    batch: int
    p50: Seconds
    p99: Seconds


class _Taken(_Strict):
    size: Annotated[int, Field(ge=0)]
    seconds: Seconds


class _Device(_Strict):
    measured_at: str
    points: list[_Point]
    taken: _Taken | None = None
    """Of old files, and where memory has no limit, not known."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What it takes to have a variant on a device: bytes there, and seconds until it has answered
    for the first time."""

    size: int
    seconds: float


class _File(_Strict):
    schema_: int = Field(alias="schema")
    hardware: str
    model: str
    variant: str
    artifact_sha256: str
    max_batch: int
    devices: dict[str, _Device]


class ProfileStore:
    """The profiles under one state folder. `wall_clock` gives seconds since the epoch."""

    def __init__(self, state_dir: Path, wall_clock: Callable[[], float] = time.time) -> None:
        self._folder = state_dir / "profiles"
        self._wall_clock = wall_clock
        self._writable = True

    def load(
        self, hardware: Hardware, model: Model, variant: Variant, device: str
    ) -> list[LatencyPoint] | None:
        """What was measured for exactly this artifact, batch limit and device; else None."""
        path = self._path(hardware, model, variant)
        try:
            file = _read(path)
        except ValueError as error:
            log.warning("profile ignored, measured again", file=str(path), reason=str(error))
            return None
        if file is None:
            return None
        stale = _stale(file, model, variant, device)
        if stale is not None:
            log.info("profile ignored, measured again", file=str(path), reason=stale)
            return None
        return [LatencyPoint(p.batch, p.p50, p.p99) for p in file.devices[device].points]

    def taken(
        self, hardware: Hardware, model: Model, variant: Variant, device: str
    ) -> Taken | None:
        """What exactly this artifact took of the device; None where that was never measured."""
        try:
            file = _read(self._path(hardware, model, variant))
        except ValueError:
            return None  # `load` has said so
        if file is None or _stale(file, model, variant, device) is not None:
            return None
        taken = file.devices[device].taken
        return None if taken is None else Taken(taken.size, taken.seconds)

    def save(
        self,
        hardware: Hardware,
        model: Model,
        variant: Variant,
        device: str,
        points: Sequence[LatencyPoint],
        taken: Taken | None = None,
    ) -> None:
        """Remember a measurement beside those of other devices, and what loading took if that is
        known.

        A folder that cannot be written is reported once; everything else works without it.
        """
        if not self._writable:
            return
        path = self._path(hardware, model, variant)
        devices = {device: self._entry(points, taken)}
        try:
            file = _read(path)
        except ValueError:
            file = None
        if file is not None and _other_artifact(file, model, variant) is None:
            kept = {
                name: entry.model_dump(exclude_none=True) for name, entry in file.devices.items()
            }
            devices = kept | devices
        document = {
            "schema": SCHEMA,
            "hardware": hardware.description,
            "model": model.name,
            "variant": variant.name,
            "artifact_sha256": variant.artifact_sha256,
            "max_batch": model.max_batch_size,
            "devices": devices,
        }
        try:
            _write(path, json.dumps(document, indent=2) + "\n")
        except OSError as error:
            self._writable = False
            log.warning(
                "profiles cannot be kept, so they are measured at every start",
                folder=str(self._folder),
                reason=error.strerror or str(error),
            )

    def _entry(self, points: Sequence[LatencyPoint], taken: Taken | None) -> dict[str, object]:
        measured_at = datetime.fromtimestamp(self._wall_clock(), UTC)
        entry: dict[str, object] = {
            "measured_at": measured_at.isoformat(timespec="seconds"),
            "points": [{"batch": p.batch, "p50": p.p50, "p99": p.p99} for p in points],
        }
        return entry if taken is None else {**entry, "taken": asdict(taken)}

    def _path(self, hardware: Hardware, model: Model, variant: Variant) -> Path:
        return self._folder / hardware.id / model.name / f"{variant.name}.json"


def _read(path: Path) -> _File | None:
    """The file's content; None if there is none, ValueError if it cannot be understood."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read: {error}") from error
    try:
        return _File.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"is not a profile: {place} {first['msg']}") from error


def _stale(file: _File, model: Model, variant: Variant, device: str) -> str | None:
    """Why the file says nothing about this variant on this device; None if it does."""
    other = _other_artifact(file, model, variant)
    if other is not None:
        return other
    entry = file.devices.get(device)
    if entry is None:
        return f"not measured on {device!r}"
    batches = [point.batch for point in entry.points]
    known = batch_sizes(model.max_batch_size)
    if not {known[0], known[-1]} <= set(batches) <= set(known) or batches != sorted(set(batches)):
        return "measured at other batch sizes"
    return None


def _other_artifact(file: _File, model: Model, variant: Variant) -> str | None:
    if file.schema_ != SCHEMA:
        return f"format {file.schema_}, expected {SCHEMA}"
    if (file.model, file.variant) != (model.name, variant.name):
        return f"is of {file.model}/{file.variant}"
    if file.artifact_sha256 != variant.artifact_sha256:
        return "measured on another artifact"
    if file.max_batch != model.max_batch_size:
        return f"measured up to batch {file.max_batch}, now {model.max_batch_size}"
    return None


def _write(path: Path, text: str) -> None:
    """Complete or not at all: another process may read while this one writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            # First its content, then its name: after a power cut too it is whole, or not there.
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
