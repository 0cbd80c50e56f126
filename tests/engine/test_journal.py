"""Several listeners where the engine has one."""

from __future__ import annotations

import numpy as np
import pytest

from builders import make_model
from gearshift.engine.journal import Journals
from gearshift.ports import Batch, Row

MODEL = make_model()
ROWS = [Row(b"r%d" % number, "default", number, 1) for number in range(20)]
BATCH = Batch(MODEL, MODEL.variants[0], "", {"x": np.zeros((1, 3))}, {}, ROWS)


class Listener:
    __hash__ = None  # type: ignore[assignment]  # as those that compare by value

    def __init__(self, breaks: bool = False) -> None:
        self.breaks = breaks
        self.heard: list[tuple[str, Batch]] = []

    def answered(self, batch: Batch) -> None:
        self._hear("answered", batch)

    def shadowed(self, batch: Batch) -> None:
        self._hear("shadowed", batch)

    def _hear(self, what: str, batch: Batch) -> None:
        self.heard.append((what, batch))
        if self.breaks:
            raise RuntimeError("no more room")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_who_fails_keeps_nobody_from_hearing_and_is_told_once(place, capsys):
    listeners = [Listener(breaks=at == place) for at in range(3)]
    journals = Journals(listeners)
    for _ in range(2):
        journals.answered(BATCH)
        journals.shadowed(BATCH)
    expected = [("answered", BATCH), ("shadowed", BATCH)] * 2
    assert [each.heard for each in listeners] == [expected] * 3
    told = capsys.readouterr().out
    assert told.count("a listener to answers failed") == 1
    assert "no more room" in told
    assert "requests=20" in told
    assert "'r15']" in told


def test_without_listeners_nothing_happens():
    Journals([]).answered(BATCH)
    Journals([]).shadowed(BATCH)
