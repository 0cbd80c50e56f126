"""CUDA shared memory: memory of a GPU that callers have made, registered by its IPC handle.

It is read and written by copies, as system shared memory is: whoever runs a variant may be another
device than the one on which the memory lies. The calls are those of the CUDA Driver API, sections
Primary Context Management, Context Management and Memory Management; a handle that the runtime API
has made is the driver's as well. They may block, for microseconds, but for `opened`.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from gearshift.cuda import library
from gearshift.errors import InvalidInput, RegionUnusable

HANDLE_BYTES = 64
"""CU_IPC_HANDLE_SIZE."""

LAZY_ENABLE_PEER_ACCESS = 1
"""CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS, the only flag that there is."""


class _Handle(ctypes.Structure):
    _fields_ = (("reserved", ctypes.c_char * HANDLE_BYTES),)


class Driver:
    """The CUDA driver of this machine. Calls that fail raise OSError with the driver's number."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise OSError(code, f"{name} failed with CUDA error {code}")

    @contextmanager
    def current(self, context: ctypes.c_void_p) -> Iterator[None]:
        """What is called inside is for this context."""
        self.call("cuCtxPushCurrent_v2", context)
        try:
            yield
        finally:
            self.call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))


@cache
def driver() -> Driver | None:
    """None where there is no CUDA, or no GPU."""
    found = library()
    return None if found is None else usable(Driver(found))


def usable(found: Driver) -> Driver | None:
    """The driver itself, if it has a GPU."""
    count = ctypes.c_int()
    try:
        found.call("cuInit", 0)
        found.call("cuDeviceGetCount", ctypes.byref(count))
    except OSError:
        return None
    return found if count.value else None


class CudaRegion:
    """Memory of one GPU, registered under a name. It is let go with the last reference: an answer
    that is under way is still written when its region is unregistered meanwhile."""

    offset = 0
    hint = "is its owner still there?"

    def __init__(
        self,
        name: str,
        device: int,
        byte_size: int,
        cuda: Driver,
        context: ctypes.c_void_p,
        pointer: int,
        number: ctypes.c_int,
    ) -> None:
        """`pointer` is where it lies in `context`, which is the device's and retained once;
        `number` is what the driver calls the device."""
        self.name = name
        self.device = device
        self.byte_size = byte_size
        self._cuda = cuda
        self._context = context
        self._pointer = pointer
        weakref.finalize(self, _close, cuda, context, pointer, number)

    def __str__(self) -> str:
        return f"CUDA shared memory region {self.name!r} (device {self.device})"

    def size_now(self) -> int:
        """Bytes; nobody can make it shorter."""
        return self.byte_size

    def read(self, offset: int, byte_size: int) -> bytes:
        """OSError if it cannot be read."""
        found = np.empty(byte_size, np.uint8)
        if byte_size:
            with self._cuda.current(self._context):
                self._cuda.call(
                    "cuMemcpyDtoH_v2",
                    ctypes.c_void_p(found.ctypes.data),
                    ctypes.c_uint64(self._pointer + offset),
                    ctypes.c_size_t(byte_size),
                )
        return found.tobytes()

    def write(self, offset: int, data: bytes | memoryview) -> int:
        """How many bytes were written. OSError if it cannot be."""
        given = np.frombuffer(data, np.uint8)
        if given.nbytes:
            with self._cuda.current(self._context):
                self._cuda.call(
                    "cuMemcpyHtoD_v2",
                    ctypes.c_uint64(self._pointer + offset),
                    ctypes.c_void_p(given.ctypes.data),
                    ctypes.c_size_t(given.nbytes),
                )
        return given.nbytes


def opened(cuda: Driver, name: str, handle: bytes, device: int, byte_size: int) -> CudaRegion:
    """The memory that the handle names, whose first bytes these are. Takes long where the GPU has
    not been used before. InvalidInput for what cannot be right, RegionUnusable for what the driver
    refuses."""
    if len(handle) != HANDLE_BYTES:
        raise InvalidInput(
            f"the raw handle of CUDA shared memory region {name!r} has {len(handle)} bytes; a CUDA"
            f" IPC handle has {HANDLE_BYTES}"
        )
    number, context, pointer = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    try:
        cuda.call("cuDeviceGet", ctypes.byref(number), ctypes.c_int(device))
        cuda.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), number)
    except OSError as error:
        raise RegionUnusable(
            f"CUDA shared memory region {name!r}: GPU {device} cannot be used ({error.strerror})"
        ) from None
    try:
        with cuda.current(context):
            cuda.call(
                "cuIpcOpenMemHandle_v2",
                ctypes.byref(pointer),
                _Handle.from_buffer_copy(handle),
                ctypes.c_uint(LAZY_ENABLE_PEER_ACCESS),
            )
    except OSError as error:
        cuda.call("cuDevicePrimaryCtxRelease_v2", number)
        raise RegionUnusable(
            f"CUDA shared memory region {name!r}: its handle cannot be opened on GPU {device}"
            f" ({error.strerror}): the memory must be another process's, and still be there"
        ) from None
    region = CudaRegion(name, device, byte_size, cuda, context, pointer.value, number)
    base, size = ctypes.c_uint64(), ctypes.c_size_t()
    with cuda.current(context):
        cuda.call("cuMemGetAddressRange_v2", ctypes.byref(base), ctypes.byref(size), pointer)
    there = base.value + size.value - pointer.value
    if not 1 <= byte_size <= there:
        raise InvalidInput(
            f"{region}: {byte_size} bytes, but the memory has {there}; register at least 1 byte,"
            " and all of them inside"
        )
    return region


def _close(cuda: Driver, context: ctypes.c_void_p, pointer: int, number: ctypes.c_int) -> None:
    with cuda.current(context):
        cuda.call("cuIpcCloseMemHandle", ctypes.c_uint64(pointer))
    cuda.call("cuDevicePrimaryCtxRelease_v2", number)
