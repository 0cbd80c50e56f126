"""System shared memory through the stock client, as it and perf_analyzer use it."""

from __future__ import annotations

import os
import queue
import threading
import time
from contextlib import contextmanager
from uuid import uuid4

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shm
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from gearshift.rpc.shared_memory import FOLDER

ROW = 12
"""Bytes of one row of the input; the output has 4."""


@contextmanager
def region(client, size, name="region", **options):
    """An object of `size` bytes, registered, and both undone after."""
    key = f"/gearshift-{uuid4().hex}"
    handle = shm.create_shared_memory_region(name, key, size, create_only=True)
    try:
        client.register_system_shared_memory(name, key, size, **options)
        yield handle
        client.unregister_system_shared_memory(name)
    finally:
        shm.destroy_shared_memory_region(handle)


def given(rows=1, name="region", byte_size=None, offset=0):
    made = triton.InferInput("x", [rows, 3], "FP32")
    return made.set_shared_memory(name, rows * ROW if byte_size is None else byte_size, offset)


def wanted(byte_size=4, name="region", offset=0):
    made = triton.InferRequestedOutput("y")
    made.set_shared_memory(name, byte_size, offset)
    return made


def fill(handle, value, offset=0, rows=1):
    shm.set_shared_memory_region(handle, [np.full((rows, 3), value, np.float32)], offset)


def found(handle, offset, rows=1):
    return shm.get_contents_as_numpy(handle, np.float32, [rows, 1], offset).tolist()


def status_of(call, *arguments, **options):
    with pytest.raises(InferenceServerException) as caught:
        call(*arguments, **options)
    return caught.value.status().removeprefix("StatusCode."), caught.value.message()


def test_input_and_output_in_one_region(client):
    with region(client, 1024) as handle:
        fill(handle, 5.0, offset=100, rows=2)
        answer = client.infer("m", [given(2, offset=100)], outputs=[wanted(8, offset=500)])
        assert found(handle, 500, rows=2) == [[15.0], [15.0]]
        told = answer.get_response()
        assert list(answer.get_output("y").shape) == [2, 1]
        assert answer.get_output("y").datatype == "FP32"
        assert list(told.raw_output_contents) == [b""]
        assert told.parameters["variant"].string_param == "large"


def test_only_one_of_the_two_in_shared_memory(client):
    with region(client, 64) as handle:
        fill(handle, 2.0)
        assert client.infer("m", [given()]).as_numpy("y").tolist() == [[6.0]]
        sent = triton.InferInput("x", [1, 3], "FP32")
        sent.set_data_from_numpy(np.full((1, 3), 4.0, np.float32))
        client.infer("m", [sent], outputs=[wanted(offset=32)])
        assert found(handle, 32) == [[12.0]]


def test_a_region_may_be_a_part_of_an_object(client):
    with region(client, 128, offset=0) as handle:
        client.register_system_shared_memory("part", handle._shm_key, 32, offset=96)
        fill(handle, 3.0, offset=100)
        client.infer("m", [given(name="part", offset=4)], outputs=[wanted(4, "part", 28)])
        assert found(handle, 124) == [[9.0]]
        client.unregister_system_shared_memory("part")


def test_the_way_perf_analyzer_begins(client):
    assert "system_shared_memory" in client.get_server_metadata().extensions
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    assert not client.get_system_shared_memory_status().regions
    assert not client.get_cuda_shared_memory_status().regions
    with region(client, 64, "one") as one, region(client, 128, "two"):
        regions = client.get_system_shared_memory_status().regions
        assert {name: told.byte_size for name, told in regions.items()} == {"one": 64, "two": 128}
        told = client.get_system_shared_memory_status("one").regions
        assert list(told) == ["one"]
        assert (told["one"].key, told["one"].offset) == (one._shm_key, 0)
        client.unregister_system_shared_memory()
        assert not client.get_system_shared_memory_status().regions


def test_the_status_of_each_mistake_around_regions_is_tritons(client):
    register = client.register_system_shared_memory
    with region(client, 64) as handle:
        key = handle._shm_key
        assert status_of(register, "region", key, 64)[0] == "ALREADY_EXISTS"
        assert status_of(register, "other", key, 65)[0] == "INVALID_ARGUMENT"
        assert status_of(register, "other", key, 64, offset=1)[0] == "INVALID_ARGUMENT"
        assert status_of(register, "other", key, 0)[0] == "INVALID_ARGUMENT"
        assert status_of(register, "other", key, 1, offset=2**64 - 1)[0] == "INVALID_ARGUMENT"
    status, message = status_of(register, "other", "/gearshift-none", 64)
    assert status == "INTERNAL"
    assert "'/gearshift-none' cannot be opened (No such file" in message
    assert status_of(register, "other", "../etc/hostname", 1)[0] == "INTERNAL"
    assert status_of(client.get_system_shared_memory_status, "nope")[0] == "NOT_FOUND"
    assert status_of(client.get_cuda_shared_memory_status, "nope")[0] == "NOT_FOUND"
    client.unregister_system_shared_memory("nope")
    client.unregister_cuda_shared_memory("nope")
    status, message = status_of(client.register_cuda_shared_memory, "c", b"", 0, 64)
    assert status == "UNIMPLEMENTED"
    assert "there is no GPU with CUDA here" in message


@pytest.mark.parametrize(
    ("inputs", "outputs", "status", "text"),
    [
        ([given(name="nope")], None, "NOT_FOUND", "input 'x': no shared memory region 'nope'"),
        ([given()], [wanted(name="nope")], "NOT_FOUND", "output 'y': no shared memory region"),
        ([given(byte_size=8)], None, "INVALID_ARGUMENT", "is 8, but shape [1, 3] of FP32 takes 12"),
        ([given(2, byte_size=12)], None, "INVALID_ARGUMENT", "takes 24"),
        ([given(offset=53)], None, "INVALID_ARGUMENT", "12 bytes from offset 53 on"),
        ([given(offset=-1)], None, "INVALID_ARGUMENT", "offset is -1"),
        ([given(byte_size=-12)], None, "INVALID_ARGUMENT", "byte_size is -12"),
        ([given(offset=2**63 - 1)], None, "INVALID_ARGUMENT", "from offset 9223372036854775807"),
        ([given(byte_size=2**63 - 1)], None, "INVALID_ARGUMENT", "9223372036854775807 bytes"),
        ([given()], [wanted(3)], "INVALID_ARGUMENT", "is 3, but 1 rows of FP32 [1] take 4"),
        ([given(2)], [wanted(4)], "INVALID_ARGUMENT", "2 rows of FP32 [1] take 8"),
        ([given()], [wanted(offset=61)], "INVALID_ARGUMENT", "4 bytes from offset 61 on"),
        ([given()], [wanted(offset=-4)], "INVALID_ARGUMENT", "offset is -4"),
    ],
)
def test_every_offset_and_size_is_checked(client, inputs, outputs, status, text):
    with region(client, 64) as handle:
        told, message = status_of(client.infer, "m", inputs, outputs=outputs)
        assert told == status
        assert text in message
        fill(handle, 1.0)
        assert client.infer("m", [given()]).as_numpy("y").tolist() == [[3.0]]


def test_a_truncated_object_fails_its_requests_and_nothing_else(bench, client):
    with region(client, 8192) as handle:
        fill(handle, 1.0, offset=4096)
        client.infer("m", [given(offset=4096)], outputs=[wanted(offset=8000)])
        os.truncate(f"{FOLDER}{handle._shm_key}", 100)
        shorter = "is shorter than it was when it was registered"
        status, message = status_of(client.infer, "m", [given(offset=4096)])
        assert (status, shorter in message) == ("INVALID_ARGUMENT", True)
        sent = triton.InferInput("x", [1, 3], "FP32")
        sent.set_data_from_numpy(np.ones((1, 3), np.float32))
        status, message = status_of(client.infer, "m", [sent], outputs=[wanted(offset=8000)])
        assert (status, shorter in message) == ("INVALID_ARGUMENT", True)
        assert client.infer("m", [given()]).as_numpy("y").tolist() == [[0.0]]
    outcomes = [ended.outcome for ended in bench.telemetry.settleds[-4:]]
    assert outcomes == ["served", "invalid", "invalid", "served"]


def test_on_a_stream(bench):
    got: queue.Queue = queue.Queue()
    with triton.InferenceServerClient(bench.address) as client, region(client, 256) as handle:
        client.start_stream(lambda result, error: got.put((result, error)))
        for number in range(4):
            fill(handle, float(number), offset=16 * number)
            client.async_stream_infer(
                "m",
                [given(offset=16 * number)],
                outputs=[wanted(offset=128 + 4 * number)],
                request_id=str(number),
            )
        answers = [got.get(timeout=10) for _ in range(4)]
        client.stop_stream()
        assert all(error is None for _, error in answers)
        assert found(handle, 128, rows=4) == [[0.0], [3.0], [6.0], [9.0]]


def test_neighbours_in_a_batch_each_get_their_own(make_bench):
    bench = make_bench(duration=lambda variant, rows: 0.01, workers=1)
    with triton.InferenceServerClient(bench.address) as client, region(client, 4096) as handle:
        done: queue.Queue = queue.Queue()
        for number in range(40):
            fill(handle, float(number), offset=ROW * number)
            client.async_infer(
                "m",
                [given(offset=ROW * number)],
                lambda result, error: done.put((result, error)),
                outputs=[wanted(offset=2048 + 4 * number)],
            )
        answers = [done.get(timeout=10) for _ in range(40)]
        assert all(error is None for _, error in answers)
        sizes = [r.get_response().parameters["batch_size"].int64_param for r, _ in answers]
        assert max(sizes) > 1
        assert found(handle, 2048, rows=40) == [[3.0 * number] for number in range(40)]


async def flights(bench):
    return len(bench.engine._settling)


def under_way(bench, client):
    """Where the answer to a request will be, once the server has it."""
    done: queue.Queue = queue.Queue()
    client.async_infer(
        "m",
        [given()],
        lambda result, error: done.put((result, error)),
        outputs=[wanted(offset=32)],
    )
    while not bench.run(flights(bench)):
        time.sleep(0.005)
    return done


def test_inputs_are_read_at_arrival_and_a_region_lives_as_long_as_its_requests(make_bench):
    bench = make_bench(duration=lambda variant, rows: 0.3)
    with triton.InferenceServerClient(bench.address) as client, region(client, 64) as handle:
        fill(handle, 1.0)
        done = under_way(bench, client)
        fill(handle, 7.0)
        client.unregister_system_shared_memory("region")
        _, error = done.get(timeout=10)
        assert error is None
        assert found(handle, 32) == [[3.0]]
        assert status_of(client.infer, "m", [given()])[0] == "NOT_FOUND"


def test_nothing_is_written_for_a_request_that_failed(make_bench):
    bench = make_bench(duration=lambda variant, rows: 0.3)
    with triton.InferenceServerClient(bench.address) as client, region(client, 64) as handle:
        fill(handle, 1.0)
        told, _ = status_of(
            client.infer, "m", [given()], outputs=[wanted(offset=32)], client_timeout=0.1
        )
        assert told == "DEADLINE_EXCEEDED"
        time.sleep(0.5)
        assert found(handle, 32) == [[0.0]]


def test_who_changes_the_memory_meanwhile_harms_only_itself(client):
    """Whatever is read, each answer is one of what was there or a mixture, and no neighbour's."""
    with region(client, 4096) as handle:
        ended = threading.Event()

        def scribble():
            value = 0.0
            while not ended.is_set():
                fill(handle, value := 1.0 - value)

        scribbler = threading.Thread(target=scribble)
        scribbler.start()
        fill(handle, 5.0, offset=2048)
        try:
            for _ in range(100):
                assert client.infer("m", [given()]).as_numpy("y").item() in (0.0, 1.0, 2.0, 3.0)
                assert client.infer("m", [given(offset=2048)]).as_numpy("y").item() == 15.0
        finally:
            ended.set()
            scribbler.join()


def test_more_regions_than_the_limit_are_refused(make_bench):
    with (
        triton.InferenceServerClient(make_bench(max_regions=1).address) as client,
        region(client, 64) as handle,
    ):
        status, message = status_of(
            client.register_system_shared_memory, "other", handle._shm_key, 64
        )
    assert status == "RESOURCE_EXHAUSTED"
    assert "1 shared memory regions are registered" in message


def test_typed_contents_beside_shared_memory_are_refused(bench, client):
    stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(bench.address))
    with region(client, 64):
        message = pb.ModelInferRequest(model_name="m")
        message.inputs.append(given()._get_tensor())
        message.inputs[0].contents.fp32_contents.extend([1.0, 2.0, 3.0])
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(message)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_where_it_is_off_nothing_can_be_registered(make_bench):
    bench = make_bench(shared_memory=False)
    with triton.InferenceServerClient(bench.address) as client:
        assert "system_shared_memory" not in client.get_server_metadata().extensions
        client.unregister_system_shared_memory()
        status, message = status_of(client.register_system_shared_memory, "r", "/key", 64)
        assert (status, "--shared-memory" in message) == ("PERMISSION_DENIED", True)
        assert status_of(client.infer, "m", [given()])[0] == "NOT_FOUND"
