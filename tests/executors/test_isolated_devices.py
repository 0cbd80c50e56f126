"""Worker processes of a machine with GPUs: which of them run on what. The processes are made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from builders import make_model
from gearshift.errors import ExecutorUnavailable
from gearshift.executors.isolated import IsolatedExecutor
from gearshift.ports import Placed, Worker


@dataclass
class Machine:
    """Its devices, and those on which nothing can be loaded."""

    devices: tuple[str, ...] = ("gpu0", "gpu1", "cpu")
    full: set[str] = field(default_factory=set)
    children: list[Process] = field(default_factory=list)

    def launch(self, start: Any) -> Any:
        self.children.append(Process(self, start))
        return self.children[-1]

    def on(self, device: str) -> list[Process]:
        return [child for child in self.children if child.device == device]


@dataclass
class Process:
    machine: Machine
    start: Any
    loaded: dict[int, Sequence[Placed]] = field(default_factory=dict)
    device: str = ""
    identity: str = "made up"
    memory: int = 0
    busy: bool = False

    @property
    def devices(self) -> tuple[str, ...]:
        return self.machine.devices

    def greeted(self) -> None:
        pass

    def attach(self, on_end: Any) -> None:
        pass

    def load(self, handle: int, order: Any) -> None:
        assert self.device in ("", order["device"]), "it keeps to one device"
        self.device = order["device"]
        if self.device in self.machine.full:
            raise ValueError(f"not enough memory on {self.device}")
        self.loaded[handle] = [Placed(self.device, "cuda", 100), Placed("gpu9", "", 0, ("cuda",))]

    def unload(self, handle: int) -> None:
        self.loaded.pop(handle, None)

    async def run(self, handle: int, inputs: Any) -> Any:
        assert handle in self.loaded
        return {"device": self.device}

    def leave(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def executor(machine):
    made = IsolatedExecutor(3, ["cuda", "cpu"], accelerated=2, launch=machine.launch)
    yield made
    made.close()


MODEL = make_model()
VARIANT = MODEL.variants[0]


def test_so_many_processes_for_each_device(machine, executor):
    assert executor.devices == ("gpu0", "gpu1", "cpu")
    assert len(machine.children) == 1
    executor.load(MODEL, VARIANT)
    assert [len(machine.on(device)) for device in machine.devices] == [2, 2, 3]


async def test_a_worker_has_a_process_of_its_device(machine, executor):
    executor.load(MODEL, VARIANT)
    workers = [Worker(number, device) for number, device in enumerate(machine.devices * 2)]
    for worker in workers:
        assert await executor.run(worker, MODEL, VARIANT, {}) == {"device": worker.device}
    with pytest.raises(ExecutorUnavailable, match=r"the 2 that there are for 'gpu0'"):
        await executor.run(Worker(9, "gpu0"), MODEL, VARIANT, {})


def test_what_they_hold_is_added_up_by_device(machine, executor):
    executor.load(MODEL, VARIANT)
    assert executor.placed(MODEL, VARIANT) == [
        Placed("gpu0", "cuda", 200),
        Placed("gpu9", "", 0, ("cuda",)),
        Placed("gpu1", "cuda", 200),
        Placed("cpu", "cuda", 300),
    ]
    executor.unload(MODEL, VARIANT)
    assert executor.placed(MODEL, VARIANT) == ()
    assert not any(child.loaded for child in machine.children)


async def test_a_device_without_room_is_left_out(machine, executor):
    machine.full = {"gpu1"}
    with capture_logs() as logs:
        executor.load(MODEL, VARIANT)
    assert [(each["device"], each["reason"]) for each in logs] == [
        ("gpu1", "not enough memory on gpu1")
    ]
    placed = {each.device: each for each in executor.placed(MODEL, VARIANT)}
    assert placed["gpu1"] == Placed("gpu1", lacking=("fake",))
    assert (placed["gpu0"].size, placed["cpu"].size) == (200, 300)
    assert await executor.run(Worker(0, "gpu0"), MODEL, VARIANT, {}) == {"device": "gpu0"}


def test_a_process_that_takes_the_place_of_another_holds_what_its_device_holds(machine, executor):
    machine.full = {"gpu1"}
    executor.load(MODEL, VARIANT)
    for device, held in (("gpu0", 1), ("gpu1", 0), ("cpu", 1)):
        slot = next(each for each in executor._slots if executor._device[each] == device)
        begun: list[str] = []
        child: Any = Process(machine, {})
        executor._fill(slot, child, lambda device=device, begun=begun: begun.append(device))
        assert begun == [device]
        assert len(child.loaded) == held


def test_without_room_anywhere_it_is_not_loaded(machine, executor):
    machine.full = {"gpu0", "gpu1", "cpu"}
    with pytest.raises(ValueError, match="not enough memory on cpu"):
        executor.load(MODEL, VARIANT)
    assert executor.placed(MODEL, VARIANT) == ()
    assert not any(child.loaded for child in machine.children)


def test_processes_of_the_processor_keep_to_a_node(machine):
    made = IsolatedExecutor(
        3, ["cuda", "cpu"], threads=2, homes=[[0, 1], [2, 3]], launch=machine.launch
    )
    made.load(MODEL, VARIANT)
    homes = [child.start["home"] for child in machine.on("cpu")]
    assert {tuple(home) for home in homes} == {(0, 1), (2, 3)}
    assert [child.start["home"] for child in machine.on("gpu1")] == [[]]
    assert {child.start["threads"] for child in machine.children} == {2}
    made.close()
