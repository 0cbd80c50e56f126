"""Writing a variant into the repository: complete or not at all.

The folder is made under a temporary name beside its final place and renamed when everything
in it is written and has been loaded once, so that neither a killed run nor a full disk leaves
a half-made variant for the server to find.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gearshift.core.card import SCHEMA, Card, DataSource, Measurement, Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

ARTIFACT = "model.onnx"
CARD = "card.json"
SAMPLES = "samples.npz"
MAX_SAMPLES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A variant that is about to be published: its file, and all that was measured on it."""

    model: str
    variant: str
    artifact: bytes
    parameters: int
    description: str
    accuracy: Measurement
    further: tuple[Measurement, ...]
    data: DataSource
    tools: Mapping[str, str]
    """The distributions that shaped the artifact, and in which versions."""
    command: str
    """What makes it again."""
    recipe_sha256: str
    """The identity of the settings, functions and rows that made it."""


def card_of(draft: Draft) -> Card:
    """The card of the variant."""
    return Card(
        schema=SCHEMA,
        model=draft.model,
        variant=draft.variant,
        artifact=ARTIFACT,
        artifact_sha256=hashlib.sha256(draft.artifact).hexdigest(),
        artifact_bytes=len(draft.artifact),
        parameters=draft.parameters,
        accuracy=draft.accuracy,
        further=draft.further,
        data=draft.data,
        recipe=Recipe(
            description=draft.description,
            command=draft.command,
            sha256=draft.recipe_sha256,
            tools=dict(sorted(draft.tools.items())),
        ),
    )


def publish(repository: Path, draft: Draft) -> Card:
    """Write `<repository>/<model>/<variant>/` in one step, replacing an earlier one."""
    card = card_of(draft)
    if draft.data.training_sha256 == draft.data.evaluation_sha256:
        raise ValueError(f"{draft.model}/{draft.variant}: evaluated on its own training data")

    def write(folder: Path) -> None:
        (folder / ARTIFACT).write_bytes(draft.artifact)
        (folder / CARD).write_text(card.to_json(), encoding="utf-8")

    replace_folder(repository / draft.model / draft.variant, write)
    return card


def replace_folder(final: Path, write: Callable[[Path], None]) -> None:
    """Fill a new folder by `write`, then put it where `final` is; on any error change nothing."""
    final.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        write(fresh)
        fresh.chmod(0o755)
        with _set_aside(final):
            fresh.rename(final)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


@contextmanager
def _set_aside(final: Path) -> Iterator[None]:
    """Move an existing folder away (a folder cannot be renamed over one with content)."""
    if not final.exists():
        yield
        return
    holder = Path(tempfile.mkdtemp(prefix=f".{final.name}-old-", dir=final.parent))
    old = holder / final.name
    final.rename(old)
    try:
        yield
    except BaseException:
        old.rename(final)
        raise
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def recover(folder: Path) -> None:
    """Put back what a run that was killed in the middle of a rename left beside its place."""
    for holder in folder.glob(".*-old-*"):
        for old in holder.iterdir():
            if not (folder / old.name).exists():
                old.rename(folder / old.name)
    for leftover in folder.glob(".*-*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)


def publish_samples(
    repository: Path,
    model: str,
    inputs: npt.NDArray[np.generic],
    labels: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
) -> None:
    """Write `samples.npz`: held-out rows as the model takes them, and what each stands for."""
    if not len(inputs) == len(labels) == len(weights) <= MAX_SAMPLES:
        raise ValueError(
            f"{model}: {len(inputs)} inputs, {len(labels)} labels, {len(weights)} weights; "
            f"expected equal numbers, at most {MAX_SAMPLES}"
        )
    folder = repository / model
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{SAMPLES}"
    with partial.open("wb") as stream:
        np.savez_compressed(stream, inputs=inputs, labels=labels, weights=weights)
    os.replace(partial, folder / SAMPLES)
