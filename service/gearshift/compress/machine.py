"""What a figure was measured on, in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path

FEATURES = ("avx512_vnni", "avx512_bf16", "amx_int8")
FAMILIES = {("25", "1"): "7003", ("25", "17"): "9004", ("23", "49"): "7002"}
"""Processors that hide their number behind a hypervisor, by family and model."""


def machine() -> str:
    """The processor: its name, its cores, and what makes int8 fast on it, or the lack of it."""
    found: dict[str, str] = {}
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            found[key.strip()] = value.strip()
    name = found.get("model name", platform.machine())
    number = FAMILIES.get((found.get("cpu family", ""), found.get("model", "")))
    flags = found.get("flags", "").split()
    features = [word for word in FEATURES if word in flags]
    if not features and "avx2" in flags:
        features = ["avx2 without VNNI"]
    words = [f"{name} {number}" if number else name, f"{os.cpu_count()} cores", *features]
    return ", ".join(words)
