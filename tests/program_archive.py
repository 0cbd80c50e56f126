"""Archives as torch.export.save writes them, made by hand: PyTorch is not needed for them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

SYMBOL = "Symbol('s77', positive=True, integer=True)"
CPU = {"type": "cpu", "index": None}


def tensor(*sizes: int, dtype: int = 7, **other: Any) -> dict[str, Any]:
    strides = [1]
    for size in reversed(sizes[1:]):
        strides.insert(0, strides[0] * size)
    return {
        "dtype": dtype,
        "sizes": [{"as_int": size} for size in sizes],
        "strides": [{"as_int": stride} for stride in strides[: len(sizes)]],
        "storage_offset": {"as_int": 0},
        "device": CPU,
        **other,
    }


PROGRAM = {
    "graph_module": {
        "graph": {
            "inputs": [{"as_tensor": {"name": "x"}}],
            "nodes": [
                {
                    "target": "torch.ops.aten.linear.default",
                    "inputs": [{"name": "input", "arg": {"as_tensor": {"name": "x"}}}],
                    "metadata": {"stack_trace": "import os"},
                }
            ],
            "tensor_values": {"x": {"sizes": [{"as_expr": {"expr_str": SYMBOL}}]}},
        },
        "signature": {"input_specs": [], "output_specs": []},
    }
}
WEIGHTS = {
    "config": {
        "l.weight": {"path_name": "weight_0", "use_pickle": False, "tensor_meta": tensor(2, 3)}
    }
}
MEMBERS: Mapping[str, Any] = {
    "models/model.json": PROGRAM,
    "data/weights/model_weights_config.json": WEIGHTS,
    "data/weights/weight_0": bytes(24),
    "data/constants/model_constants_config.json": {"config": {}},
    "data/sample_inputs/model.pt": b"samples",
    "archive_format": b"pt2",
    "byteorder": b"little",
}


def archive(changes: Mapping[str, Any] = MEMBERS, *, method: int = zipfile.ZIP_STORED) -> bytes:
    """Members that are None are left out."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as made:
        for name, content in {**MEMBERS, **changes}.items():
            if content is not None:
                content = content if isinstance(content, bytes) else json.dumps(content)
                made.writestr(f"m/{name}", content)
    return written.getvalue()
