"""What a measured latency is true for: this processor, and these executors."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Hardware:
    """`description` for people; `id`, a short hash of it, for the name of a folder."""

    id: str
    description: str

    @classmethod
    def here(cls, identities: Iterable[str]) -> Hardware:
        """This machine with executors of these identities, in whatever order they come."""
        cores = _usable_cores()
        parts = [_processor(), f"{cores} cores", platform.machine(), *sorted(set(identities))]
        description = ", ".join(parts)
        return cls(hashlib.sha256(description.encode()).hexdigest()[:12], description)


def hardware_id(identities: Iterable[str]) -> str:
    """The id of this machine with executors of these identities."""
    return Hardware.here(identities).id


def _usable_cores() -> int:
    """Those that this process may use: a container often gets fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or "unknown processor"
