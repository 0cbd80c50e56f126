"""NVIDIA's GPUs as CUDA numbers them, asked of the driver itself.

The management library (NVML) numbers them otherwise, and knows nothing of CUDA_VISIBLE_DEVICES. The
four calls are those of the CUDA Driver API, sections Initialization and Device Management; none of
them takes memory on a GPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from gearshift.cuda import library

LONGEST_NAME = 256


class Gpu(NamedTuple):
    number: int
    name: str
    memory: int
    """In bytes."""

    @property
    def device(self) -> str:
        """What its workers stand for."""
        return f"gpu{self.number}"


@cache
def gpus() -> Sequence[Gpu]:
    """Those that this process may use; none where there is no driver."""
    driver = library()
    return () if driver is None else told_by(driver)


def told_by(driver: Any) -> Sequence[Gpu]:
    """`driver` is the library; a call that fails ends the list, and is no error: then CUDA does not
    run here either."""
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    found = []
    for number in range(count.value):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(LONGEST_NAME)
        memory = ctypes.c_size_t()
        if (
            driver.cuDeviceGet(ctypes.byref(device), number)
            or driver.cuDeviceGetName(name, LONGEST_NAME, device)
            or driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        ):
            break
        found.append(Gpu(number, name.value.decode(errors="replace"), memory.value))
    return tuple(found)
