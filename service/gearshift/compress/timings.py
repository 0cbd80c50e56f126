"""How long each training took, kept beside the weights it gave.

A run that resumes reads weights from the cache in no time; the report still tells what they
once cost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

FILE = "seconds.json"


def note(cache: Path, step: str, seconds: float) -> None:
    """Record that `step` took `seconds`, in place of what an earlier run of it took."""
    known = {**read(cache), step: round(seconds, 1)}
    partial = cache / f".{FILE}"
    partial.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    partial.replace(cache / FILE)


def read(cache: Path) -> Mapping[str, float]:
    """Seconds by step, in the order in which they were first noted."""
    path = cache / FILE
    if not path.exists():
        return {}
    known: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return known
