"""The mails are read from the archive, split by group, and cut into rows; nothing is fetched."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from gearshift.compress.dataset import DataError
from gearshift.compress.families import text_data
from gearshift.compress.families.text_mails import Mail


def corpus(n: int = 200) -> list[Mail]:
    """Pairs of mails with the same subject and nothing else in common."""
    generator = np.random.default_rng(0)

    def words(count: int) -> str:
        letters = generator.integers(97, 123, (count, 7)).astype(np.uint8)
        return " ".join(row.tobytes().decode() for row in letters)

    subjects = [words(4) for _ in range(n // 2)]
    return [Mail(str(i), subjects[i // 2], words(20), spam=i % 3 == 0) for i in range(n)]


def test_the_parts_are_disjoint_whole_groups_of_about_the_right_size() -> None:
    mails = corpus()
    parts = text_data.split(mails, 0.6, 0.1)
    assert [len(part) for part in parts] == [120, 20, 60]
    subjects = [{mail.subject for mail in part} for part in parts]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not subjects[one] & subjects[other]
    assert sorted(mail.name for part in parts for mail in part) == sorted(m.name for m in mails)


def test_the_split_does_not_keep_the_order_of_the_corpus() -> None:
    training, _, _ = text_data.split(corpus(), 0.6, 0.1)
    assert sum(int(mail.name) < 100 for mail in training) < 90


@pytest.mark.parametrize(
    ("count", "windows", "sizes"),
    [(0, 1, [0]), (3, 1, [3]), (6, 3, [6]), (20, 1, [6]), (20, 2, [6, 6]), (20, 9, [6, 6, 6])],
)
def test_windows_continue_where_the_one_before_ended(
    count: int, windows: int, sizes: list[int]
) -> None:
    content = list(range(1000, 1000 + count))
    rows = text_data.windows_of([101, *content, 102], 8, windows)
    assert all(len(row) == 8 for row in rows)
    found = [[i for i in row if i >= 1000] for row in rows]
    assert [len(piece) for piece in found] == sizes
    assert [i for piece in found for i in piece] == content[: sum(sizes)]
    for row in rows:
        inside = [i for i in row if i != text_data.PADDING]
        assert (inside[0], inside[-1]) == (101, 102)


def test_mails_are_read_from_the_archive_by_folder(tmp_path: Path) -> None:
    archive = tmp_path / "mails.tgz"
    files = {
        "package/data/spam-1/00002.txt": b"Subject: buy\n\nnow",
        "package/data/easy-ham-1/00001.txt": b"Subject: hello\n\nthere",
        "package/data/easy-ham-1/00001.json": b"{}",
        "package/LICENSE.txt": b"no mail",
    }
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    assert text_data.read_mails(archive) == [
        Mail("easy-ham-1/00001.txt", "hello", "there", spam=False),
        Mail("spam-1/00002.txt", "buy", "now", spam=True),
    ]


def test_unknown_and_impossible_options_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not colour"):
        text_data.spam(tmp_path, lambda line: None, colour=1)
    with pytest.raises(DataError, match="at least 3 and 1"):
        text_data.spam(tmp_path, lambda line: None, tokens=2)


def test_the_parts_come_from_the_cache_when_they_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mails = corpus(20)
    calls = []

    def split_mails(cache: Path, report: object) -> tuple[list[Mail], list[Mail], list[Mail]]:
        calls.append(1)
        return text_data.split(mails, 0.6, 0.1)

    class Encoding:
        ids = (101, *range(2000, 2030), 102)

    class Tokenizer:
        def encode_batch(self, texts: list[str]) -> list[Encoding]:
            return [Encoding() for _ in texts]

    monkeypatch.setattr(text_data, "spam_mails", split_mails)
    monkeypatch.setattr(text_data, "tokenizer", lambda cache, report: Tokenizer())
    for _ in range(2):
        data = text_data.spam(tmp_path, lambda line: None, tokens=12, windows=2)
    assert calls == [1]
    ids = data.training.inputs[text_data.INPUT]
    assert (ids.shape, ids.dtype) == ((24, 12), np.int64)
    assert data.evaluation.inputs[text_data.INPUT].shape == (6, 12)
    for part, chosen, each in (
        (data.training, text_data.split(mails, 0.6, 0.1)[0], 2),
        (data.evaluation, text_data.split(mails, 0.6, 0.1)[2], 1),
    ):
        assert part.labels.tolist() == [int(m.spam) for m in chosen for _ in range(each)]
