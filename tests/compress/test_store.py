"""What the steps have made, when two processes work on one cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from gearshift.compress.made import Made
from gearshift.compress.store import Store

KEY = "0123456789abcdef" * 4


def made(content: bytes) -> Made:
    return Made(artifact=content, parameters=1, about="a step", tools=())


def test_who_is_done_second_keeps_what_the_first_has_made(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save("step", KEY, made(b"first"), 1.0)
    store.save("step", KEY, made(b"second"), 2.0)
    kept = store.load("step", KEY, None)
    assert kept is not None
    assert kept.artifact == b"first"
    assert [path.name for path in tmp_path.iterdir()] == [f"step-{KEY[:16]}"]


def test_another_reason_why_it_cannot_be_kept_is_told(tmp_path: Path) -> None:
    blocked = tmp_path / "cache"
    blocked.write_text("a file where the cache should be")
    with pytest.raises(OSError, match="cache"):
        Store(blocked).save("step", KEY, made(b"first"), 1.0)
