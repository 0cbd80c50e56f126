"""The fault-injecting executor does what its plan says, and nothing else."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import ONE_VECTOR, make_model
from gearshift.errors import WorkerLost
from gearshift.executors.fake import FakeExecutor
from gearshift.executors.fault_plan import Draws, Fault, Kind, Moment, Plan, plan_from
from gearshift.executors.faulty import FaultyExecutor, Injected, ToldByFile
from gearshift.ports import Worker
from virtual import VirtualLoop, virtual

WORKER = Worker(0, "cpu")
MODEL = make_model()
LARGE, SMALL = MODEL.variants


def rows(*values: float):
    return {"x": np.array([[value] * 3 for value in values], np.float32)}


def faulty(*faults: Fault, seed: int = 0, loop: VirtualLoop | None = None, **more):
    inner = FakeExecutor(ONE_VECTOR, lambda variant, rows: 0.01)
    for variant in MODEL.variants:
        inner.load(MODEL, variant)
    clock = {} if loop is None else {"now": loop.time}
    return FaultyExecutor(inner, Plan(faults, seed), **clock, **more)


@pytest.mark.parametrize(
    ("kind", "error"),
    [(Kind.THROW, Injected), (Kind.MEMORY, MemoryError), (Kind.LOST, WorkerLost)],
)
@virtual
async def test_a_run_that_breaks_and_the_next_that_does_not(kind, error):
    executor = faulty(Fault(kind=kind, count=1))
    with pytest.raises(error):
        await executor.run(WORKER, MODEL, LARGE, rows(1))
    assert (await executor.run(WORKER, MODEL, LARGE, rows(1)))["y"].tolist() == [[3.0]]
    assert executor.struck == {kind: 1}


@virtual
async def test_outputs_that_are_not_as_they_should_be():
    kinds = (Kind.SHAPE, Kind.DTYPE, Kind.MISSING, Kind.NAN)
    executor = faulty(*(Fault(kind=kind, count=1) for kind in kinds))
    shape, dtype, missing, nan = [
        await executor.run(WORKER, MODEL, LARGE, rows(1, 2)) for _ in kinds
    ]
    assert shape["y"].shape == (3, 1)
    assert dtype["y"].dtype == np.int16
    assert missing == {}
    assert np.isnan(nan["y"]).tolist() == [[True], [False]]
    executor.take_up(Plan((Fault(kind=Kind.NAN, amount=1),)))
    assert np.isnan(executor.run_here(MODEL, LARGE, rows(1, 2))["y"]).all()


@virtual
async def test_only_what_fits():
    executor = faulty(
        Fault(kind=Kind.THROW, variant="small"),
        Fault(kind=Kind.MEMORY, model="other"),
        Fault(kind=Kind.THROW, poison=666),
    )
    await executor.run(WORKER, MODEL, LARGE, rows(1))
    with pytest.raises(Injected):
        await executor.run(WORKER, MODEL, SMALL, rows(1))
    with pytest.raises(Injected):
        await executor.run(WORKER, MODEL, LARGE, rows(1, 666))


@virtual
async def test_a_run_hangs_until_its_fault_is_over_or_the_plan_another():
    loop = asyncio.get_running_loop()
    executor = faulty(Fault(kind=Kind.HANG, end=2.0), loop=loop)
    await executor.run(WORKER, MODEL, LARGE, rows(1))
    assert loop.time() == pytest.approx(2.01, abs=0.06)
    executor.take_up(Plan((Fault(kind=Kind.HANG),)))
    running = asyncio.ensure_future(executor.run(WORKER, MODEL, LARGE, rows(1)))
    await asyncio.sleep(3600)
    assert executor.hanging == 1
    executor.take_up(Plan())
    await running
    assert executor.hanging == 0
    executor.take_up(Plan((Fault(kind=Kind.SLOW, amount=5),)))
    begun = loop.time()
    await executor.run(WORKER, MODEL, LARGE, rows(1))
    assert loop.time() - begun == pytest.approx(0.05)


@virtual
async def test_loads_fail_as_well_and_leaks_stay():
    executor = faulty(
        Fault(kind=Kind.THROW, moment=Moment.LOAD, count=1),
        Fault(kind=Kind.MEMORY, moment=Moment.LOAD, count=1),
        Fault(kind=Kind.LEAK, amount=1000),
    )
    with pytest.raises(ValueError, match="on purpose"):
        executor.load(MODEL, LARGE)
    with pytest.raises(MemoryError):
        executor.load(MODEL, LARGE)
    executor.load(MODEL, LARGE)
    for _ in range(3):
        executor.run_here(MODEL, LARGE, rows(1))
    assert [len(block) for block in executor.leaked] == [1000] * 3


@virtual
async def test_the_process_ends_as_told():
    told = []
    executor = faulty(
        Fault(kind=Kind.EXIT, amount=3, count=1), Fault(kind=Kind.CRASH), end_process=told.append
    )
    executor.run_here(MODEL, LARGE, rows(1))
    executor.run_here(MODEL, LARGE, rows(1))
    assert told == [3, -11]


def test_a_real_process_ends():
    code = (
        "from gearshift.executors.faulty import _end_process; import sys;"
        "_end_process(int(sys.argv[1]))"
    )
    for status in (7, -11):
        ended = subprocess.run([sys.executable, "-c", code, str(status)], timeout=60)
        assert ended.returncode == status


@given(
    seed=st.integers(0, 2**32),
    probability=st.floats(0, 1),
    count=st.none() | st.integers(0, 5),
    times=st.lists(st.floats(0, 10), max_size=30).map(sorted),
)
def test_the_same_seed_gives_the_same_faults_within_bounds(seed, probability, count, times):
    fault = Fault(kind=Kind.THROW, probability=probability, begin=2, end=8, count=count)
    first, second = ([], [])
    for found in (first, second):
        draws = Draws(Plan((fault,), seed))
        found += [draws.next(Moment.RUN, "m", "v", now) for now in times]
    assert first == second
    struck = [now for now, hit in zip(times, first, strict=True) if hit]
    assert all(2 <= now < 8 for now in struck)
    assert count is None or len(struck) <= count
    if probability == 1.0 and count is None:
        assert struck == [now for now in times if 2 <= now < 8]


async def test_another_plan_in_the_file_is_taken_up(tmp_path):
    file = tmp_path / "plan.json"
    inner = FakeExecutor(ONE_VECTOR, lambda variant, rows: 0.0)
    inner.load(MODEL, LARGE)
    executor = ToldByFile(inner, file)

    def tell(*faults: dict):
        (tmp_path / "new").write_text(json.dumps({"faults": faults, "seed": 1}))
        (tmp_path / "new").rename(file)

    executor.run_here(MODEL, LARGE, rows(1))
    tell({"kind": "throw", "variant": "large"})
    with pytest.raises(Injected):
        executor.run_here(MODEL, LARGE, rows(1))
    file.unlink()
    executor.run_here(MODEL, LARGE, rows(1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no plan of faults"),
        ("[]", "no plan of faults"),
        ('{"faults": [{"kind": "melt"}]}', "kind"),
        ('{"faults": [{"kind": "throw", "varaint": "x"}]}', "no varaint"),
        ('{"faults": [{"kind": "throw", "probability": 2}]}', "between 0 and 1"),
        ('{"faults": [{"kind": "hang", "begin": 2, "end": 1}]}', "not before"),
        ('{"faults": [{"kind": "throw", "count": -1}]}', "below 0"),
        ('{"faults": [{"kind": "leak", "amount": -1}]}', "0 or more"),
    ],
)
def test_what_is_no_plan_is_told(text, words):
    with pytest.raises(ValueError, match=words):
        plan_from(text)


def test_a_plan_in_words():
    plan = plan_from('{"faults": [{"kind": "hang", "end": 3, "variant": "int8"}], "seed": 4}')
    assert plan == Plan((Fault(kind=Kind.HANG, end=3.0, variant="int8"),), 4)
