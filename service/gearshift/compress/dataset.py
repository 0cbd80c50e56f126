"""The rows that a recipe works with: three parts that share no row, told apart by content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gearshift.errors import GearshiftError

Array = npt.NDArray[np.generic]
Labels = npt.NDArray[np.int64]
LABELS = "labels"


class DataError(GearshiftError):
    """Data is missing, damaged, not what was asked for, or in two parts at once."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows as the model takes them, and what is true of each.

    `inputs` holds one array a graph input, by its name and in the graph's order, each with the
    rows in its first dimension; `labels` is [n]: a class, or who is in a picture.
    """

    inputs: Mapping[str, Array]
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, chosen: slice | npt.NDArray[np.generic]) -> Part:
        """The chosen rows as a part of their own."""
        return Part(
            {name: array[chosen] for name, array in self.inputs.items()}, self.labels[chosen]
        )

    def digests(self) -> npt.NDArray[np.bytes_]:
        """A 16-byte digest of each row's inputs, in hexadecimal: equal rows have equal ones."""
        flat = [
            np.ascontiguousarray(array).reshape(len(self), int(np.prod(array.shape[1:])))
            for array in self.inputs.values()
        ]
        made = []
        for row in range(len(self)):
            digest = hashlib.blake2b(digest_size=16)
            for array in flat:
                digest.update(array[row].tobytes())
            made.append(digest.hexdigest())
        return np.array(made, dtype="S32")

    def sha256(self) -> str:
        """The identity of the rows: SHA-256 over names, types, shapes and bytes."""
        digest = hashlib.sha256()
        for name, array in (*self.inputs.items(), (LABELS, self.labels)):
            digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def joined(first: Part, second: Part) -> Part:
    """The rows of both parts, in order."""
    return Part(
        {
            name: np.concatenate([array, second.inputs[name]])
            for name, array in first.inputs.items()
        },
        np.concatenate([first.labels, second.labels]),
    )


def without_repeats(*parts: Part) -> list[Part]:
    """The parts in order, each without the rows that an earlier one has, too, by content."""
    fresh: list[Part] = []
    seen = np.array([], "S32")
    for part in parts:
        own = part.digests()
        fresh.append(part.rows(~np.isin(own, seen)))
        seen = np.concatenate([seen, own])
    return fresh


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSets:
    """What a recipe learns from, chooses by and is measured on.

    `training` teaches; `calibration` sets the scales of quantization and decides every choice
    (it may be empty where a recipe has neither); `evaluation` only measures.
    """

    name: str
    source: str
    licence: str
    training: Part
    calibration: Part
    evaluation: Part

    def parts(self) -> Mapping[str, Part]:
        """The three parts by name."""
        return {
            "training": self.training,
            "calibration": self.calibration,
            "evaluation": self.evaluation,
        }

    def learned_sha256(self) -> str:
        """The identity of everything that is learned from or chosen by."""
        both = self.training.sha256() + self.calibration.sha256()
        return hashlib.sha256(both.encode()).hexdigest()


def checked(data: DataSets) -> DataSets:
    """`data`, when its parts fit together and no row, by content, is in two of them."""
    described = {name: _described(part, name) for name, part in data.parts().items()}
    for name, found in described.items():
        if found != described["training"]:
            raise DataError(
                f"the {name} part has the inputs {found}, the training part "
                f"{described['training']}; they must be alike in name, type and shape"
            )
    for name in ("training", "evaluation"):
        if not len(data.parts()[name]):
            raise DataError(f"the {name} part has no rows")
    digests = {name: part.digests() for name, part in data.parts().items()}
    for one, other in combinations(digests, 2):
        shared = np.isin(digests[other], digests[one])
        if shared.any():
            raise DataError(
                f"{int(shared.sum())} of {len(shared)} {other} rows also occur in the {one} part "
                f"(the first is row {int(shared.argmax())}): what was learned from cannot be "
                f"measured on; leave such rows out of one of the two"
            )
    return data


def _described(part: Part, name: str) -> Mapping[str, str]:
    if not part.inputs:
        raise DataError(f"the {name} part has no inputs; expected one array a graph input")
    for key, array in part.inputs.items():
        if len(array) != len(part):
            raise DataError(
                f"the {name} part has {len(array)} rows of {key!r} but {len(part)} labels"
            )
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))[0])
            raise DataError(f"the {name} part holds NaN or infinity in {key!r}, row {row}")
    if part.labels.ndim != 1 or part.labels.dtype != np.int64:
        raise DataError(
            f"the labels of the {name} part are {part.labels.dtype} of shape "
            f"{part.labels.shape}; expected int64 [n]"
        )
    return {key: f"{array.dtype} {list(array.shape[1:])}" for key, array in part.inputs.items()}


def read_part(path: Path) -> Part:
    """The rows of a `.npz` file: `labels`, and every other array is the input of its name."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected one that numpy.savez wrote") from None
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: not a file that numpy.savez wrote ({reason})") from error
    labels = found.pop(LABELS, None)
    if labels is None or not np.issubdtype(labels.dtype, np.integer):
        kind = "none" if labels is None else str(labels.dtype)
        raise DataError(f"{path}: array `labels` must hold whole numbers, one a row; found {kind}")
    return Part(found, labels.astype(np.int64))


def read_parts(
    training: Path, calibration: Path, evaluation: Path, *, name: str, source: str, licence: str
) -> DataSets:
    """Three `.npz` files as data sets."""
    return DataSets(
        name=name,
        source=source,
        licence=licence,
        training=read_part(training),
        calibration=read_part(calibration),
        evaluation=read_part(evaluation),
    )


def save_npz(path: Path, **arrays: Array) -> None:
    """Write beside, then rename: a killed run must not leave half a table in the cache."""
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **arrays)  # type: ignore[arg-type]
    partial.replace(path)
