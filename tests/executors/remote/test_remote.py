"""Remote variants: which server gets a batch, what it is told, and what if it fails or is slow."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import serialize_byte_tensor

from builders import ONE_VECTOR, make_model
from gearshift.artifacts import read_again
from gearshift.client.tensors import outputs, request
from gearshift.errors import ExecutorUnavailable
from gearshift.executors.remote import RemoteExecutor, observed, pool
from remote_server import ROWS, SUMS, WORKERS, RemoteServer, refusing
from waiting import until


async def test_the_rest_of_a_budget_goes_along(executor, servers, far):
    model, variant = far(servers[0])
    executor.load(model, variant)
    for within in (3.0, math.inf):
        answer = await executor.run(WORKERS[0], model, variant, ROWS, within)
        assert answer["y"].tolist() == SUMS
    asked, left = servers[0].asked, servers[0].left
    assert 1.0 < left[0] <= 3.1
    assert left[1] > 1e9
    assert not asked[0].parameters


async def test_bf16_travels_as_such(executor, servers, far):
    def doubles(asked):
        values = outputs(answer_of(asked))["x"]
        return answer_of(request("m", "", {"x": 2 * values}, {"x"}), "y")

    def answer_of(asked, name="x"):
        told = pb.ModelInferResponse(model_name="m")
        told.outputs.add(name=name, datatype="BF16", shape=asked.inputs[0].shape)
        told.raw_output_contents.append(asked.raw_input_contents[0])
        return told

    for server in servers:
        server.datatype, server.given, server.infer = "BF16", [-1, 3], doubles
    model, variant = far(servers[0])
    signature = executor.inspect(read_again(variant))
    assert [spec.datatype for spec in (*signature.inputs, *signature.outputs)] == ["BF16"] * 2
    model = replace(model, signature=signature)
    executor.load(model, variant)
    answer = await executor.run(WORKERS[0], model, variant, ROWS)
    assert servers[0].asked[-1].inputs[0].datatype == "BF16"
    assert answer["y"].tolist() == (2 * ROWS["x"]).tolist()


async def test_another_gearshift_hears_of_floor_and_budget(executor, far):
    ours = RemoteServer("gearshift")
    try:
        model, variant = far(ours)
        executor.load(model, variant)
        await executor.run(WORKERS[0], model, variant, ROWS, 2.0)
        pinned = far(ours, more='version = "4"\nservice_class = "fleet"\n')
        executor.load(*pinned)
        await executor.run(WORKERS[0], *pinned, ROWS)
    finally:
        ours.stop()
    free, fixed = (request.parameters for request in ours.asked)
    assert free["min_accuracy"].double_param == variant.accuracy
    assert 0.0 < free["latency_budget_ms"].double_param <= 2_000.0
    assert "service_class" not in free
    assert {name: each.string_param for name, each in fixed.items()} == {"service_class": "fleet"}
    assert [each.model_version for each in ours.asked] == ["", "4"]


async def test_no_server_gets_more_at_a_time_than_it_has_places(executor, servers, far):
    model, variant = far(*servers, more="slots = 2\n")
    executor.load(model, variant)
    assert executor.slots == 4
    for server in servers:
        server.gate.clear()
    runs = [asyncio.ensure_future(executor.run(worker, model, variant, ROWS)) for worker in WORKERS]
    await asyncio.to_thread(until, lambda: sum(s.under_way for s in servers) == 4)
    for server in servers:
        server.gate.set()
    for answer in await asyncio.gather(*runs):
        assert answer["y"].tolist() == SUMS
    assert [server.most_under_way for server in servers] == [2, 2]


async def test_who_finds_no_place_in_time_is_told(executor, servers, far):
    model, variant = far(servers[0], more="slots = 1\n")
    executor.load(model, variant)
    servers[0].gate.clear()
    first = asyncio.ensure_future(executor.run(WORKERS[0], model, variant, ROWS))
    await asyncio.to_thread(until, lambda: servers[0].under_way == 1)
    with pytest.raises(ExecutorUnavailable, match="no remote server can run it: .* it is busy"):
        await executor.run(WORKERS[1], model, variant, ROWS, 0.05)
    servers[0].gate.set()
    assert (await first)["y"].tolist() == SUMS


async def test_variants_on_the_same_server_share_its_places(executor, servers, far):
    first = far(servers[0], more="slots = 1\n")
    executor.load(*first)
    second = replace(first[0], generation=2), first[1]
    executor.load(*second)
    assert executor.slots == 1
    servers[0].gate.clear()
    runs = [
        asyncio.ensure_future(executor.run(WORKERS[0], *each, ROWS)) for each in (first, second)
    ]
    await asyncio.to_thread(until, lambda: servers[0].under_way == 1)
    servers[0].gate.set()
    async with asyncio.timeout(10):
        assert [run["y"].tolist() for run in await asyncio.gather(*runs)] == [SUMS, SUMS]
    assert servers[0].most_under_way == 1


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    ],
)
async def test_what_one_server_cannot_do_another_is_asked_for(executor, servers, far, code):
    model, variant = far(*servers)
    executor.load(model, variant)
    servers[0].infer = refusing(code)
    for _ in range(4):
        answer = await executor.run(WORKERS[0], model, variant, ROWS, 5.0)
        assert answer["y"].tolist() == SUMS
    servers[1].infer = refusing(code)
    with pytest.raises(ExecutorUnavailable, match=code.name):
        await executor.run(WORKERS[0], model, variant, ROWS, 5.0)


async def test_a_request_that_is_wrong_is_asked_once(executor, servers, far):
    model, variant = far(*servers)
    executor.load(model, variant)
    for server in servers:
        server.infer = refusing(grpc.StatusCode.INVALID_ARGUMENT)
    with pytest.raises(RuntimeError, match="INVALID_ARGUMENT: on purpose"):
        await executor.run(WORKERS[0], model, variant, ROWS)
    assert sum(len(server.asked) for server in servers) == 1


async def test_a_server_that_is_gone_is_not_asked_and_missed_no_longer_once_it_is_back(
    executor, servers, far
):
    returned: list[int] = []
    executor.on_return(lambda: returned.append(1))
    model, variant = far(servers[0])
    executor.load(model, variant)
    # It was ready when it was first seen.
    assert len(returned) == 1
    servers[0].stop()
    with pytest.raises(ExecutorUnavailable, match="no remote server can run it"):
        await executor.run(WORKERS[0], model, variant, ROWS, 5.0)
    with pytest.raises(ExecutorUnavailable, match=servers[0].address):
        await executor.run(WORKERS[0], model, variant, ROWS)
    servers[0].start()
    await asyncio.to_thread(until, lambda: len(returned) == 2)
    answer = await executor.run(WORKERS[0], model, variant, ROWS)
    assert answer["y"].tolist() == SUMS


async def test_one_that_takes_unusually_long_is_not_waited_for(executor, servers, far, monkeypatch):
    # What a busy machine holds up must not use up what may be asked twice.
    monkeypatch.setattr(pool, "HEDGES", 1.0)
    model, variant = far(*servers)
    executor.load(model, variant)
    for _ in range(4 * observed.ENOUGH):
        await executor.run(WORKERS[0], model, variant, ROWS, 10.0)
    # The one that was asked more often, and is asked first.
    slow = max(servers, key=lambda server: len(server.asked))
    slow.gate.clear()
    answers = [await executor.run(WORKERS[0], model, variant, ROWS, 10.0) for _ in range(3)]
    assert [answer["y"].tolist() for answer in answers] == [SUMS] * 3
    # Who asked it has hung up.
    await asyncio.to_thread(until, lambda: slow.under_way == 0)


async def test_a_run_that_is_cancelled_is_so_there_as_well(executor, servers, far):
    model, variant = far(servers[0])
    executor.load(model, variant)
    servers[0].gate.clear()
    run = asyncio.ensure_future(executor.run(WORKERS[0], model, variant, ROWS))
    await asyncio.to_thread(until, lambda: servers[0].under_way == 1)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await executor.replace(WORKERS[0])
    await asyncio.to_thread(until, lambda: servers[0].cancelled == 1)
    servers[0].gate.set()
    assert (await executor.run(WORKERS[0], model, variant, ROWS))["y"].tolist() == SUMS


# --- what is loaded ---------------------------------------------------------------------------


def test_what_a_server_said_serves_while_none_is_there(tmp_path, servers, far):
    model, variant = far(servers[0])
    state = tmp_path / "state"
    for there in (True, False):
        if not there:
            servers[0].stop()
        executor = RemoteExecutor(state)
        try:
            assert executor.inspect(read_again(variant)) == ONE_VECTOR
            executor.load(model, variant)
        finally:
            executor.close()
    (kept,) = (state / "remote").iterdir()
    kept.write_text("{}")
    executor = RemoteExecutor(state)
    try:
        with pytest.raises(
            ValueError, match=r"says UNAVAILABLE.*and none has said yet what it takes"
        ):
            executor.inspect(read_again(variant))
    finally:
        executor.close()


def test_a_folder_that_cannot_be_written_costs_only_that(tmp_path, servers, far):
    (tmp_path / "state").write_text("a file")
    executor = RemoteExecutor(tmp_path / "state")
    try:
        assert executor.inspect(read_again(far(servers[0])[1])) == ONE_VECTOR
    finally:
        executor.close()


def test_models_that_cannot_be_served(executor, servers, far):
    server = servers[0]
    with pytest.raises(ValueError, match="take batches of 8 rows, and those of this model have up"):
        executor.load(*far(server, most=9))
    for shape, reason in (([2, 3], "that of a batch"), ([-1, -1], "only the first dimension may")):
        server.shape, server.most_rows = shape, 0
        with pytest.raises(ValueError, match=reason):
            executor.inspect(read_again(far(server)[1]))
    server.shape, server.most_rows = [-1, 3], 8
    with pytest.raises(ValueError, match="says NOT_FOUND: no model other"):
        executor.inspect(read_again(far(server, more='model = "other"\n')[1]))


def test_servers_that_tell_no_configuration_have_no_bound(executor, servers, far):
    servers[0].most_rows = None
    model, variant = far(servers[0], most=1_000)
    executor.load(model, variant)
    assert executor.inspect(read_again(variant)) == ONE_VECTOR


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("servers = ", "is no TOML"),
        ("servers = []", "servers: List should have at least 1"),
        ('servers = ["a"]', "'a' is no HOST:PORT"),
        ('servers = ["a:0"]', "'a:0' is no HOST:PORT"),
        ('servers = ["a:1", "a:1"]', "one of them is there twice"),
        ('servers = ["a:1"]\nslot = 3', "slot: Extra inputs are not permitted"),
        ('servers = ["a:1"]\nslots = 0', "slots: Input should be greater"),
        ('servers = ["a:1"]\nca_file = "/x"', "without tls = true"),
        ('servers = ["a:1"]\ntoken_file = "/x"', "not sent without tls = true"),
        ('servers = ["a:1"]\ntls = true\ntoken_file = "x"', "token_file: 'x' is no absolute path"),
        ('servers = ["a:1"]\ntls = true\ntoken_file = "/no"', "token_file: /no cannot be read: No"),
        ('servers = ["a:1"]\ntls = true\nca_file = "/no"', "ca_file: /no cannot be read: No"),
        ('servers = ["a:1"]\ntls = true\nkey_file = "/x"', "no use without the other"),
        (
            'servers = ["a:1"]\ncertificate_file = "/x"\nkey_file = "/x"',
            "certificate_file: nobody asks for it without tls",
        ),
    ],
)
def test_mistakes_in_the_file(executor, tmp_path, text, reason):
    path = tmp_path / "m" / "v" / "remote.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    variant = replace(make_model().variants[0], artifact=str(path))
    with pytest.raises(ValueError, match=reason):
        executor.inspect(read_again(variant))


# --- tensors ----------------------------------------------------------------------------------


def test_texts_go_there_and_back():
    texts = np.array([[b"a", b"", b"\xff"]], object)
    asked = request("m", "", {"t": texts})
    answer = pb.ModelInferResponse()
    answer.outputs.add(name="t", datatype="BYTES", shape=[1, 3])
    answer.raw_output_contents.append(asked.raw_input_contents[0])
    assert asked.inputs[0].datatype == "BYTES"
    assert asked.raw_input_contents[0] == serialize_byte_tensor(texts).item()
    assert outputs(answer)["t"].tolist() == texts.tolist()


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("FP32", "fp32_contents", [1.5, 2.5]),
        ("INT8", "int_contents", [-1, 2]),
        ("UINT64", "uint64_contents", [1, 2**63]),
        ("BOOL", "bool_contents", [True, False]),
        ("BYTES", "bytes_contents", [b"a", b"b"]),
    ],
)
def test_values_that_do_not_come_raw(datatype, field, values):
    answer = pb.ModelInferResponse()
    output = answer.outputs.add(name="y", datatype=datatype, shape=[2, 1])
    getattr(output.contents, field).extend(values)
    assert outputs(answer)["y"].tolist() == [[value] for value in values]


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "reason"),
    [
        ("FP32", [2], [b"1234"], "came as 4 bytes"),
        ("FP32", [2], [b"1234", b"1234"], "2 buffers for 1 outputs"),
        ("FP32", [2], [], "came as 0 values"),
        ("FP33", [2], [b""], "has type 'FP33'"),
        ("FP32", [-1], [b""], "shape"),
        ("BYTES", [2], [b"\1\0\0\0a"], "came as 1 values"),
    ],
)
def test_outputs_that_are_not_what_they_say(datatype, shape, raw, reason):
    answer = pb.ModelInferResponse(raw_output_contents=raw)
    answer.outputs.add(name="y", datatype=datatype, shape=shape)
    with pytest.raises(ValueError, match=reason):
        outputs(answer)
