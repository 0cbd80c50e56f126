"""Both clients against a real gearshift, and against a server that is none."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
import trustme
from tritonclient.grpc import service_pb2 as pb

from gearshift.client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    Infeasible,
    InvalidRequest,
    NotFound,
    Overloaded,
    Retries,
    Unavailable,
)
from gearshift.v1 import gearshift_pb2
from grpc_bench import GrpcBench
from remote_server import Refuses, RemoteServer, summed

ROWS = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
SUMS = [[6.0], [15.0]]

Do = Callable[..., Any]
"""Makes a client with these options, and calls one method of it with those arguments."""


def blocking(address: str, method: str, *args: Any, access: Any = None, **options: Any) -> Any:
    with Client(address, **(access or {})) as client:
        return getattr(client, method)(*args, **options)


def waited(address: str, method: str, *args: Any, access: Any = None, **options: Any) -> Any:
    async def wait() -> Any:
        async with AsyncClient(address, **(access or {})) as client:
            return await getattr(client, method)(*args, **options)

    return asyncio.run(wait())


@pytest.fixture(params=[blocking, waited])
def do(request) -> Do:
    return request.param


@pytest.fixture(scope="module")
def bench() -> Iterator[GrpcBench]:
    made = GrpcBench()
    yield made
    made.stop()


@pytest.fixture
def server() -> Iterator[RemoteServer]:
    made = RemoteServer()
    yield made
    made.stop()


def test_both_have_the_same_methods():
    def methods(kind: type) -> dict[str, Any]:
        return {
            name: inspect.signature(each)
            for name, each in vars(kind).items()
            if not name.startswith("_")
        }

    assert methods(Client) == methods(AsyncClient)


def test_an_answer_says_who_gave_it(do, bench):
    answer = do(bench.address, "infer", "m", {"x": ROWS}, budget=5.0, floor=0.5, request_id="7")
    assert answer["y"].tolist() == SUMS
    assert list(answer) == ["y"]
    assert (answer.model, answer.id) == ("m", "7")
    assert answer.variant == "large"
    assert answer.reason == "most_accurate"
    assert 0.0 < answer.budget <= 5.0
    assert answer.computed >= 0.0
    assert answer.queued >= 0.0
    assert "by large: y [2, 1]" in repr(answer)


def test_pins_classes_and_outputs(do, bench):
    assert do(bench.address, "infer", "m", {"x": ROWS}, variant="small").reason == "pinned"
    assert do(bench.address, "infer", "m", {"x": ROWS}, version=2, outputs=["y"]).variant == "small"
    with pytest.raises(InvalidRequest, match="vip"):
        do(bench.address, "infer", "m", {"x": ROWS}, service_class="vip")
    with pytest.raises(InvalidRequest, match="bogus"):
        do(bench.address, "infer", "m", {"x": ROWS}, parameters={"bogus": True})


def test_what_cannot_be_is_told_by_what_to_do(do, bench):
    with pytest.raises(Infeasible, match=r"0\.999"):
        do(bench.address, "infer", "m", {"x": ROWS}, floor=0.999)
    with pytest.raises(NotFound, match="no model 'none'"):
        do(bench.address, "infer", "none", {"x": ROWS})
    with pytest.raises(InvalidRequest, match="input 'z'"):
        do(bench.address, "infer", "m", {"z": ROWS})
    with pytest.raises(ValueError, match="positive number of seconds"):
        do(bench.address, "infer", "m", {"x": ROWS}, budget=0.0)
    with pytest.raises(ValueError, match="finite number"):
        do(bench.address, "infer", "m", {"x": ROWS}, floor=math.nan)


def test_explain_and_ready(do, bench):
    told = do(bench.address, "explain", "m", budget=5.0, floor=0.0, rows=2)
    assert isinstance(told, gearshift_pb2.ExplainResponse)
    assert told.chosen == "large"
    assert do(bench.address, "ready")
    assert do(bench.address, "ready", "m")
    assert not do(bench.address, "ready", "none")


def test_a_server_that_is_no_gearshift(do, server):
    answer = do(server.address, "infer", "m", {"x": ROWS}, budget=5.0)
    assert answer["y"].tolist() == SUMS
    assert (answer.variant, answer.accuracy, answer.id, answer.queued) == (None, None, None, None)
    assert 1.0 < server.left[0] <= 5.1
    with pytest.raises(NotFound):
        do(server.address, "explain", "m")


def test_bf16_goes_and_comes(do, server):
    def echoes(request: Any) -> Any:
        told = pb.ModelInferResponse(model_name="m")
        told.outputs.add(name="y", datatype="BF16", shape=request.inputs[0].shape)
        told.raw_output_contents.append(request.raw_input_contents[0])
        return told

    server.infer = echoes
    values = ROWS.astype(ml_dtypes.bfloat16)
    answer = do(server.address, "infer", "m", {"x": values})
    assert server.asked[0].inputs[0].datatype == "BF16"
    assert len(server.asked[0].raw_input_contents[0]) == 12
    assert answer["y"].dtype == np.float32
    assert answer["y"].tolist() == ROWS.tolist()


def test_it_asks_again_and_says_what_is_left(do, server):
    def refuses_once(request: Any) -> Any:
        server.infer = summed
        raise Refuses(grpc.StatusCode.UNAVAILABLE)

    server.infer = refuses_once
    answer = do(server.address, "infer", "m", {"x": ROWS}, budget=5.0)
    assert answer["y"].tolist() == SUMS
    first, second = [each.parameters["latency_budget_ms"].double_param for each in server.asked]
    assert first > second > 0.0


def test_it_gives_up(do, server):
    def refuses(request: Any) -> Any:
        raise Refuses(grpc.StatusCode.RESOURCE_EXHAUSTED)

    server.infer = refuses
    with pytest.raises(Overloaded) as told:
        do(server.address, "infer", "m", {"x": ROWS}, access={"retries": Retries(attempts=2)})
    assert told.value.retry_after is None
    assert len(server.asked) == 2
    server.gate.clear()
    with pytest.raises(DeadlineExceeded):
        do(server.address, "infer", "m", {"x": ROWS}, budget=0.05)


def test_nobody_is_there(do):
    with pytest.raises(Unavailable):
        do("localhost:1", "infer", "m", {"x": ROWS}, access={"retries": Retries(attempts=1)})


def test_texts(do, server):
    def echo(request: Any) -> Any:
        told = summed.__globals__["pb"].ModelInferResponse(model_name="m")
        told.outputs.add(name="t", datatype="BYTES", shape=[1, 2])
        told.raw_output_contents.append(request.raw_input_contents[0])
        return told

    server.infer = echo
    for texts in ([["ab", "ü"]], np.array([[b"ab", "ü".encode()]], object)):
        answer = do(server.address, "infer", "m", {"t": texts})
        assert answer["t"].tolist() == [[b"ab", "ü".encode()]]
        assert server.asked[-1].inputs[0].datatype == "BYTES"


def test_tls_and_tokens(do, tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    key = certificate.private_key_pem.bytes()
    server = RemoteServer(credentials=grpc.ssl_server_credentials([(key, chain)]))
    try:
        access = {"tls": True, "ca": tmp_path / "ca.pem", "token": "t", "metadata": [("a", "b")]}
        do(server.address, "infer", "m", {"x": ROWS}, access=access)
    finally:
        server.stop()
    (metadata,) = server.metadata
    assert (metadata["authorization"], metadata["a"]) == ("Bearer t", "b")


@pytest.mark.parametrize(
    ("access", "text"),
    [
        ({"token": "t"}, "for all to read"),
        ({"ca": "x"}, "say tls=True"),
        ({"tls": True, "key": "x"}, "belong together"),
    ],
)
def test_ways_to_speak_that_cannot_be_meant(do, access, text):
    with pytest.raises(ValueError, match=text):
        do("localhost:1", "ready", access=access)
