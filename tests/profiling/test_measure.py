"""Measuring in virtual time: which batches, how often, and what becomes of the figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import make_model
from gearshift.core.catalog import Model, Signature, TensorSpec
from gearshift.ports import Worker
from gearshift.profiling import measure
from gearshift.profiling.measure import ENOUGH, TURN, batch_sizes, certain, point, unknown

CPU = Worker(0, "cpu")


@pytest.mark.parametrize(
    ("largest", "sizes"),
    [(1, [1]), (2, [1, 2]), (8, [1, 2, 4, 8]), (10, [1, 2, 4, 8, 10]), (1023, [512, 1023])],
)
def test_batch_sizes(largest: int, sizes: list[int]) -> None:
    assert batch_sizes(largest)[-len(sizes) :] == sizes


async def test_points_are_the_time_of_a_run(executor: Any) -> None:
    model = make_model(max_batch_size=5)
    points = await measure(executor, CPU, model, model.variants[0], clock=executor.clock)
    assert [p.batch for p in points] == [1, 2, 4, 5]
    assert points[0].p50 == pytest.approx(0.011)
    assert points[-1].p99 == pytest.approx(0.015)


async def test_runs_that_warm_up_are_not_counted(executor: Any) -> None:
    """The first run takes 5 s; were it counted, it would be the slowest."""
    executor.seconds = lambda variant, rows, run: 5.0 if run == 1 else 0.01
    model = make_model(max_batch_size=1)
    points = await measure(executor, CPU, model, model.variants[0], clock=executor.clock)
    assert points[0].p99 == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("seconds", "repeats"),
    [(1.0, 5), (0.0101, 10), (1e-6, ENOUGH)],
    ids=["slow", "middle", "fast"],
)
async def test_repeats_follow_the_budget(executor: Any, seconds: float, repeats: int) -> None:
    executor.seconds = lambda variant, rows, run: seconds
    model = make_model(max_batch_size=1)
    await measure(executor, CPU, model, model.variants[0], clock=executor.clock)
    warm_ups = 1 if seconds == 1.0 else 3
    assert len(executor.runs) == warm_ups + repeats


async def test_a_median_that_is_not_certain_is_measured_on_up_to_a_limit(executor: Any) -> None:
    executor.seconds = lambda variant, rows, run: 1e-6 * (1 + run % 7)
    model = make_model(max_batch_size=1)
    await measure(executor, CPU, model, model.variants[0], clock=executor.clock)
    assert len(executor.runs) == 3 + 200


def test_a_median_is_certain_when_most_runs_are_alike_however_slow_the_others() -> None:
    assert certain([1.0, 1.05] * 12 + [9.0] * 12 + [0.2] * 12)
    assert not certain([1.0] * 24 + [2.0] * 24)
    assert not certain([1.0, 1.2] * 24)


async def test_sizes_take_turns(executor: Any) -> None:
    """So that whatever disturbs the machine for a moment does not meet one size alone."""
    executor.seconds = lambda variant, rows, run: 1e-6
    model = make_model(max_batch_size=2)
    await measure(executor, CPU, model, model.variants[0], clock=executor.clock)
    rows = [rows for _, _, rows in executor.runs]
    assert rows == [1] * 3 + [2] * 3 + ([1] * TURN + [2] * TURN) * (ENOUGH // TURN)


def settled(seconds: Any, largest: int) -> list[int]:
    """The sizes that are measured if a batch takes `seconds(rows)`."""
    sizes, p50s = batch_sizes(largest), {}
    while wanted := unknown(sizes, p50s):
        assert not p50s.keys() & set(wanted)
        p50s |= {batch: seconds(batch) for batch in wanted}
    return sorted(p50s)


@pytest.mark.parametrize(
    ("seconds", "largest", "measured"),
    [
        (lambda rows: 1.0, 1, [1]),
        (lambda rows: rows, 2, [1, 2]),
        (lambda rows: 3 + rows, 64, [1, 8, 32, 64]),
        (lambda rows: max(8, rows), 64, [1, 2, 4, 8, 16, 32, 64]),
        (lambda rows: max(64, rows), 128, [1, 2, 4, 8, 16, 32, 64, 128]),
        (lambda rows: -(-rows // 16), 100, [1, 2, 4, 8, 16, 32, 64, 100]),
    ],
)
def test_a_size_between_two_is_left_out_where_a_line_says_the_same(
    seconds: Any, largest: int, measured: list[int]
) -> None:
    assert settled(seconds, largest) == measured


def test_quantiles_of_many_and_of_few_runs() -> None:
    many = point(1, [run / 1000 for run in range(1, 201)])
    assert many.p50 == pytest.approx(0.1005)
    assert many.p99 == pytest.approx(0.19801)
    few = point(4, [0.001] * 9 + [0.5])
    assert (few.batch, few.p50, few.p99) == (4, 0.001, 0.5)


def with_samples(model: Model, path: Path, inputs: Any) -> Model:
    np.savez(path, inputs=inputs, labels=np.zeros(len(inputs)))
    return replace(model, samples=str(path))


async def test_samples_are_used_over_and_over(executor: Any, tmp_path: Path) -> None:
    rows = np.arange(9, dtype=np.float32).reshape(3, 3)
    model = with_samples(make_model(max_batch_size=8), tmp_path / "samples.npz", rows)
    await measure(executor, CPU, model, model.variants[0], clock=executor.clock)
    last = executor.inputs[-1]["x"]
    assert last.dtype == np.float32
    assert last[:, 0].tolist() == [0, 3, 6, 0, 3, 6, 0, 3]


async def test_text_samples_travel_as_bytes(executor: Any, tmp_path: Path) -> None:
    signature = Signature((TensorSpec("text", "BYTES", (1,)),), ())
    model = make_model(max_batch_size=2, signature=signature)
    model = with_samples(model, tmp_path / "samples.npz", np.array([["é"]]))
    await measure(executor, CPU, model, model.variants[0], clock=executor.clock)
    assert executor.inputs[0]["text"].tolist() == [["é".encode()]]


async def test_without_samples_every_datatype_is_made_up(executor: Any) -> None:
    types = {
        "BOOL": np.bool_,
        "UINT8": np.uint8,
        "INT64": np.int64,
        "FP16": np.float16,
        "FP64": np.float64,
        "BYTES": np.object_,
    }
    specs = tuple(TensorSpec(name, name, (2, 3)) for name in types)
    model = make_model(max_batch_size=4, signature=Signature(specs, ()))
    await measure(executor, CPU, model, model.variants[0], clock=executor.clock)
    for name, dtype in types.items():
        array = executor.inputs[-1][name]
        assert (array.shape, array.dtype) == ((4, 2, 3), np.dtype(dtype))
    assert executor.inputs[-1]["INT64"].max() <= 1


async def test_made_up_inputs_are_the_same_at_every_start(executor: Any) -> None:
    model = make_model(max_batch_size=1)
    for _ in range(2):
        await measure(executor, CPU, model, model.variants[0], clock=executor.clock)
    assert (executor.inputs[0]["x"] == executor.inputs[-1]["x"]).all()
