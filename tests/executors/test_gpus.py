"""What CUDA's driver says of its GPUs."""

from __future__ import annotations

import ctypes

import pytest

from gearshift.executors.gpus import Gpu, told_by


class Driver:
    """Has `names`; `broken` is the call that fails."""

    def __init__(self, *names: str, broken: str = "") -> None:
        self._names = names
        self._broken = broken

    def __getattr__(self, call: str):
        if call.startswith("__"):
            raise AttributeError(call)
        return lambda *given: 100 if call == self._broken else getattr(self, f"_{call}")(*given)

    def _cuInit(self, flags):  # noqa: N802
        assert flags == 0
        return 0

    def _cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = len(self._names)
        return 0

    def _cuDeviceGet(self, device, number):  # noqa: N802
        device._obj.value = number + 40
        return 0

    def _cuDeviceGetName(self, name, longest, device):  # noqa: N802
        assert longest == len(name)
        name.value = self._names[device.value - 40].encode()
        return 0

    def _cuDeviceTotalMem_v2(self, memory, device):  # noqa: N802
        assert isinstance(memory._obj, ctypes.c_size_t)
        memory._obj.value = (device.value - 39) * 2**33
        return 0


def test_each_has_its_number_name_and_memory():
    found = told_by(Driver("A", "B"))
    assert found == (Gpu(0, "A", 2**33), Gpu(1, "B", 2**34))
    assert [gpu.device for gpu in found] == ["gpu0", "gpu1"]


@pytest.mark.parametrize(
    "call",
    ["cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceTotalMem_v2"],
)
def test_a_driver_that_fails_has_none(call):
    assert told_by(Driver("A", "B", broken=call)) == ()
