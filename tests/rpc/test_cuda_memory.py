"""CUDA shared memory, by a driver that is made up: no GPU is needed, and none has been tried."""

from __future__ import annotations

import base64
import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from gearshift.rpc import inference
from gearshift.rpc.cuda_memory import Driver, usable
from grpc_bench import GrpcBench
from waiting import until

HANDLE = bytes(range(64))
BASE = 1 << 40
SIZE = 1024
CONTEXT = 77
NOT_FOUND, INVALID = 500, 1


class FakeCuda:
    """One GPU, and one allocation of another process on it, which begins 256 bytes before what the
    handle names. Everything is refused without the context."""

    def __init__(self, gpus: int = 1) -> None:
        self.gpus = gpus
        self.memory = bytearray(SIZE + 256)
        self.retained = self.opened = 0
        self.current: list[int] = []
        self.gone = False

    def cuInit(self, flags):  # noqa: N802
        return 0

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = self.gpus
        return 0

    def cuDeviceGet(self, number, ordinal):  # noqa: N802
        number._obj.value = ordinal.value
        return 0 if 0 <= ordinal.value < self.gpus else 101

    def cuDevicePrimaryCtxRetain(self, context, number):  # noqa: N802
        context._obj.value = CONTEXT
        self.retained += 1
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, number):  # noqa: N802
        self.retained -= 1
        return 0

    def cuCtxPushCurrent_v2(self, context):  # noqa: N802
        self.current.append(context.value)
        return 0

    def cuCtxPopCurrent_v2(self, context):  # noqa: N802
        context._obj.value = self.current.pop()
        return 0

    def cuIpcOpenMemHandle_v2(self, pointer, handle, flags):  # noqa: N802
        if bytes(handle) != HANDLE or self.current != [CONTEXT] or flags.value != 1:
            return INVALID
        pointer._obj.value = BASE + 256
        self.opened += 1
        return 0

    def cuIpcCloseMemHandle(self, pointer):  # noqa: N802
        self.opened -= 1
        return 0 if pointer.value == BASE + 256 and self.current == [CONTEXT] else INVALID

    def cuMemGetAddressRange_v2(self, base, size, pointer):  # noqa: N802
        base._obj.value, size._obj.value = BASE, len(self.memory)
        return 0 if pointer.value == BASE + 256 else INVALID

    def _at(self, pointer, size):
        if self.gone or self.current != [CONTEXT]:
            return None
        first = pointer.value - BASE
        assert 256 <= first <= first + size.value <= len(self.memory)
        return slice(first, first + size.value)

    def cuMemcpyDtoH_v2(self, to, pointer, size):  # noqa: N802
        at = self._at(pointer, size)
        if at is None:
            return INVALID
        ctypes.memmove(to.value, bytes(self.memory[at]), size.value)
        return 0

    def cuMemcpyHtoD_v2(self, pointer, given, size):  # noqa: N802
        at = self._at(pointer, size)
        if at is None:
            return INVALID
        self.memory[at] = ctypes.string_at(given.value, size.value)
        return 0

    # --- as its owner sees it ------------------------------------------------------------

    def put(self, *values: float, offset: int = 0) -> None:
        data = np.array(values, np.float32).tobytes()
        self.memory[256 + offset : 256 + offset + len(data)] = data

    def get(self, offset: int, count: int) -> list[float]:
        first = 256 + offset
        return np.frombuffer(self.memory[first : first + 4 * count], np.float32).tolist()


@pytest.fixture
def cuda(monkeypatch) -> FakeCuda:
    made = FakeCuda()
    monkeypatch.setattr(inference, "driver", lambda: usable(Driver(made)))
    return made


@pytest.fixture
def client(cuda, make_bench) -> Iterator[triton.InferenceServerClient]:
    bench: GrpcBench = make_bench()
    with triton.InferenceServerClient(bench.address) as made:
        yield made


@contextmanager
def registered(client, name: str = "there", size: int = SIZE) -> Iterator[None]:
    client.register_cuda_shared_memory(name, _encoded(HANDLE), 0, size)
    yield
    client.unregister_cuda_shared_memory(name)


def _encoded(handle: bytes) -> bytes:
    """As the client takes it, which decodes it."""
    return base64.b64encode(handle)


def given(offset: int = 0, rows: int = 1, region: str = "there") -> triton.InferInput:
    sent = triton.InferInput("x", [rows, 3], "FP32")
    sent.set_shared_memory(region, 12 * rows, offset)
    return sent


def wanted(offset: int, size: int = 4, region: str = "there") -> triton.InferRequestedOutput:
    asked = triton.InferRequestedOutput("y")
    asked.set_shared_memory(region, size, offset)
    return asked


def refused(call, *arguments, **options) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as caught:
        call(*arguments, **options)
    return caught.value.status().removeprefix("StatusCode."), caught.value.message()


def test_inputs_and_outputs_on_a_gpu(client, cuda):
    assert "cuda_shared_memory" in client.get_server_metadata().extensions
    with registered(client):
        cuda.put(1, 2, 3, 4, 5, 6, offset=100)
        answer = client.infer("m", [given(100, 2)], outputs=[wanted(500, 8)])
        assert cuda.get(500, 2) == [6.0, 15.0]
        assert list(answer.get_response().raw_output_contents) == [b""]
        told = client.get_cuda_shared_memory_status().regions
        assert [(each.device_id, each.byte_size) for each in told.values()] == [(0, SIZE)]
        # The other kind is told apart.
        assert not client.get_system_shared_memory_status().regions
        assert refused(client.get_system_shared_memory_status, "there")[0] == "NOT_FOUND"
        client.unregister_system_shared_memory()
        assert list(client.get_cuda_shared_memory_status("there").regions) == ["there"]
    assert not client.get_cuda_shared_memory_status().regions


def test_what_is_unregistered_is_let_go(client, cuda):
    with registered(client):
        assert (cuda.opened, cuda.retained) == (1, 1)
    gc.collect()
    until(lambda: (cuda.opened, cuda.retained) == (0, 0))
    assert cuda.current == []


def test_mistakes(client, cuda):
    register = client.register_cuda_shared_memory
    with registered(client):
        status, told = refused(register, "there", _encoded(HANDLE), 0, 8)
        assert status == "ALREADY_EXISTS"
        status, told = refused(client.infer, "m", [given(SIZE - 8)])
        assert (status, f"region has {SIZE}" in told or str(SIZE) in told) == (
            "INVALID_ARGUMENT",
            True,
        )
        status, told = refused(client.infer, "m", [given()], outputs=[wanted(0, 2)])
        assert status == "INVALID_ARGUMENT"
    for arguments, wrong in (
        ((_encoded(HANDLE[:-1]), 0, 8), ("INVALID_ARGUMENT", "has 63 bytes; a CUDA IPC handle")),
        ((_encoded(HANDLE), 0, SIZE + 1), ("INVALID_ARGUMENT", f"but the memory has {SIZE}")),
        ((_encoded(HANDLE), 0, 0), ("INVALID_ARGUMENT", "register at least 1 byte")),
        ((_encoded(HANDLE), 1, 8), ("INTERNAL", "GPU 1 cannot be used")),
        ((_encoded(bytes(64)), 0, 8), ("INTERNAL", "cannot be opened on GPU 0")),
    ):
        status, told = refused(register, "wrong", *arguments)
        assert (status, wrong[1] in told) == (wrong[0], True), told
    gc.collect()
    until(lambda: (cuda.opened, cuda.retained) == (0, 0))


def test_memory_that_its_owner_has_given_up_fails_that_request_alone(client, cuda):
    with registered(client):
        cuda.gone = True
        status, told = refused(client.infer, "m", [given()])
        assert (status, "cannot be read (cuMemcpyDtoH_v2 failed" in told) == (
            "INVALID_ARGUMENT",
            True,
        )
        sent = triton.InferInput("x", [1, 3], "FP32")
        sent.set_data_from_numpy(np.ones((1, 3), np.float32))
        status, told = refused(client.infer, "m", [sent], outputs=[wanted(0)])
        assert (status, "is its owner still there?" in told) == ("INVALID_ARGUMENT", True)
        assert client.infer("m", [sent]).as_numpy("y").tolist() == [[3.0]]


@pytest.mark.parametrize("broken", ["cuInit", "cuDeviceGetCount"])
def test_a_driver_that_does_not_work_is_none(broken, monkeypatch):
    made = FakeCuda()
    monkeypatch.setattr(made, broken, lambda *_: NOT_FOUND)
    assert usable(Driver(made)) is None


def test_no_gpu_is_none():
    assert usable(Driver(FakeCuda(gpus=0))) is None
    assert usable(Driver(FakeCuda())) is not None
