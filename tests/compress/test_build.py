"""The entry point loads no training framework before it trains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gearshift.compress.build import FAMILIES, UnknownFamily, build


def test_an_unknown_family_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownFamily, match="no recipe for x, y; there are fraud, tumor, garment"):
        build(["y", "fraud", "x"], tmp_path, tmp_path / "cache", lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_importing_the_entry_point_loads_no_framework() -> None:
    program = (
        "import sys, gearshift.compress.build\n"
        "print([m for m in ('torch', 'sklearn', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
    assert set(FAMILIES) == {"fraud", "tumor", "garment"}
