"""Programs of torch.export for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def row_sum(path: Path, most: int = 64) -> Path:
    """Sums each row of x[3] into y[1]; exported for 1 to `most` rows."""
    import torch

    class RowSum(torch.nn.Module):
        def forward(self, x: Any) -> Mapping[str, Any]:
            return {"y": x.sum(dim=1, keepdim=True)}

    rows = torch.export.Dim("rows", min=1, max=most)
    return saved(RowSum(), path, {"x": torch.zeros(2, 3)}, {"x": {0: rows}})


def saved(module: Any, path: Path, inputs: Mapping[str, Any], shapes: Any) -> Path:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    exported = torch.export.export(module.eval(), (), dict(inputs), dynamic_shapes=shapes)
    torch.export.save(exported, path)
    return path
