"""What servers have said of their models, kept for a start at which none of them can be reached."""

from __future__ import annotations

import json
import math
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from gearshift.core.catalog import Signature, TensorSpec

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """What a model takes and gives, and the most rows of a batch, infinite where there is no
    bound."""

    signature: Signature
    most_rows: float


class _Tensor(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    datatype: str
    shape: list[int]

    def spec(self) -> TensorSpec:
        return TensorSpec(self.name, self.datatype, tuple(self.shape))


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    inputs: list[_Tensor]
    outputs: list[_Tensor]
    most_rows: int | None


class Remembered:
    """Files in `folder`, by the hash of the artifact that names the servers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> Told | None:
        """None for what is not known, or cannot be read."""
        try:
            found = _File.model_validate_json((self._folder / f"{name}.json").read_bytes())
        except (OSError, ValidationError):
            return None
        return Told(
            Signature(
                tuple(each.spec() for each in found.inputs),
                tuple(each.spec() for each in found.outputs),
            ),
            math.inf if found.most_rows is None else float(found.most_rows),
        )

    def write(self, name: str, told: Told) -> None:
        """A folder that cannot be written costs the next start its independence, and no more."""
        text = json.dumps(
            {
                "inputs": [asdict(each) for each in told.signature.inputs],
                "outputs": [asdict(each) for each in told.signature.outputs],
                "most_rows": None if told.most_rows == math.inf else int(told.most_rows),
            }
        )
        path = self._folder / f"{name}.json"
        with suppress(OSError):
            if path.exists() and path.read_text() == text:
                return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._folder, delete=False) as written:
                written.write(text)
            os.replace(written.name, path)
        except OSError as error:
            log.warning(
                "what remote servers said cannot be kept",
                folder=str(self._folder),
                reason=error.strerror or str(error),
            )
