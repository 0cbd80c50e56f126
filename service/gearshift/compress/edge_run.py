"""The process in which a mobile artifact is measured: `python -m ... MODEL INPUTS OUTPUTS`.

It answers each row of INPUTS alone, writes all outputs to OUTPUTS and prints, as JSON, the
median latency and the peak of memory above that of the runtime without a model.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]


def main(model: str, inputs: str, outputs: str) -> None:
    """Measure `model` and tell."""
    with np.load(inputs) as arrays:
        columns = {name: arrays[name] for name in arrays.files}
    opened = _ort if model.endswith(".ort") else _litert
    load = opened()
    bare = _peak_mb()
    run = load(model)
    n = len(next(iter(columns.values())))
    answers, seconds = [], []
    for index in range(n):
        row = {name: column[index : index + 1] for name, column in columns.items()}
        started = time.perf_counter()
        answers.append(run(row))
        seconds.append(time.perf_counter() - started)
    np.save(outputs, np.concatenate(answers))
    told = {"p50_ms": statistics.median(seconds) * 1e3, "peak_mb": _peak_mb() - bare}
    print(json.dumps(told))  # noqa: T201 - the process's answer


def _peak_mb() -> float:
    """The most memory that this process held; `getrusage` would count its parent's, too."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) / 1024.0
    raise RuntimeError("/proc/self/status tells no VmHWM; peak memory is measured on Linux only")


def _ort() -> Callable[[str], Callable[[Row], Any]]:
    import onnxruntime

    def load(model: str) -> Callable[[Row], Any]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return lambda row: session.run(None, row)[0]

    return load


def _litert() -> Callable[[str], Callable[[Row], Any]]:
    from ai_edge_litert.interpreter import Interpreter

    def load(model: str) -> Callable[[Row], Any]:
        interpreter = Interpreter(model_path=model, num_threads=1)
        interpreter.allocate_tensors()
        places = [detail["index"] for detail in interpreter.get_input_details()]
        answer = interpreter.get_output_details()[0]["index"]

        def run(row: Row) -> Any:
            for place, value in zip(places, row.values(), strict=True):
                interpreter.set_tensor(place, value)
            interpreter.invoke()
            return interpreter.get_tensor(answer)

        return run

    return load


if __name__ == "__main__":
    main(*sys.argv[1:])
