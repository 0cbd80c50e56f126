"""Reading a recipe loads no training framework: mistakes are told at once."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_entry_point_loads_no_framework() -> None:
    program = (
        "import sys, gearshift.compress.job\n"
        "print([m for m in ('torch', 'sklearn', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
