"""The first answer of an executor in a process that does nothing else.

python -m loadtests.first_answer torch model.pt2 30
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gearshift.core.catalog import Model, ServiceClass, Signature, TensorSpec, Variant
from gearshift.ports import Executor, Worker

WORKER = Worker(0, "cpu")
MOST_ROWS = 64


def model_of(shape: Sequence[int], executor: str, path: Path) -> tuple[Model, Variant]:
    variant = Variant(
        name="v", version=1, executor=executor, accuracy=1.0, source="declared", artifact=str(path)
    )
    signature = Signature((TensorSpec("x", "FP32", tuple(shape)),), ())
    classes = {"default": ServiceClass("default")}
    model = Model(
        name=executor,
        metric="",
        max_batch_size=MOST_ROWS,
        signature=signature,
        classes=classes,
        default_class="default",
        variants=(variant,),
    )
    return model, variant


def made(kind: str) -> Executor:
    """Only what is wanted is imported."""
    if kind == "torch":
        from gearshift.executors.pytorch import TorchExecutor

        return TorchExecutor("cpu")
    from gearshift.executors.onnx import OnnxExecutor

    return OnnxExecutor(["CPUExecutionProvider"])


async def main(kind: str, path: Path, shape: Sequence[int]) -> None:
    executor = made(kind)
    model, variant = model_of(shape, kind, path)
    executor.load(model, variant)
    answer = await executor.run(WORKER, model, variant, {"x": np.zeros((1, *shape), np.float32)})
    assert np.isfinite(answer["y"]).all()
    executor.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), [int(size) for size in sys.argv[3:]]))
