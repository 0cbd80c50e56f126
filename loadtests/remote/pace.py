"""How long runs take on a server that stands for one on other hardware: as a file says, which may
change while it runs. They sleep, so that they cost this machine nothing."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of a run; of this share of the runs, `slow` seconds."""

    seconds: float
    share: float = 0.0
    slow: float = 0.0

    def write(self, file: Path) -> None:
        made = file.with_suffix(".new")
        made.write_text(json.dumps(asdict(self)))
        made.rename(file)


class Paced:
    """The pauses of one run after the other, from a fixed seed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._random = random.Random(0)

    def next(self) -> float:
        pace = Pace(**json.loads(self._file.read_text()))
        return pace.slow if self._random.random() < pace.share else pace.seconds
