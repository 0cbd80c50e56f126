"""Tensors over HTTP that are neither JSON nor behind it: raw bodies, and regions of memory."""

from __future__ import annotations

import json
import math
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from gearshift.http.rest.asking import Mistake
from gearshift.http.rest.infer import HEADER_LENGTH, read_raw
from gearshift.http.rest.values import inferred
from grpc_bench import GrpcBench
from rest_site import INFER, RAW, ROWS, Site, asked

ROW = RAW[:12]


@pytest.fixture(scope="module")
def site():
    bench = GrpcBench()
    made = Site(bench)
    yield made
    made.server.stop()
    bench.stop()


def test_a_body_that_is_nothing_but_a_row(site):
    answer, content = site.ask(INFER, ROW, Inference_Header_Content_Length="0")
    assert answer.status == 200
    size = int(answer.headers[HEADER_LENGTH])
    (output,) = json.loads(content[:size])["outputs"]
    assert (output["name"], output["shape"]) == ("y", [1, 1])
    assert np.frombuffer(content[size:], np.float32).tolist() == [6.0]


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        (INFER, ROW[:-1], 400, "11 bytes are no whole number of FP32"),
        (INFER, RAW, 400, "one row of [3] FP32; 24 bytes are 6 elements"),
        (INFER, b"", 400, "0 bytes are 0 elements"),
        ("/v2/models/nobody/infer", ROW, 404, "no model 'nobody'"),
        ("/v2/models/m/versions/99/infer", ROW, 404, "99"),
    ],
)
def test_raw_bodies_that_are_no_row(site, path, body, status, text):
    found, answer = site.told(path, body, Inference_Header_Content_Length="0")
    assert found == status
    assert text in answer["error"]


def described(*tensors: tuple[str, str, list[int]]) -> pb.ModelMetadataResponse:
    return pb.ModelMetadataResponse(
        name="m",
        inputs=[
            pb.ModelMetadataResponse.TensorMetadata(name=name, datatype=datatype, shape=shape)
            for name, datatype, shape in tensors
        ],
    )


def test_bytes_are_one_element_without_its_length():
    request, wanted = read_raw(b"picture", described(("x", "BYTES", [-1, 1])), "2")
    assert request.raw_input_contents[0] == b"\x07\x00\x00\x00picture"
    assert list(request.inputs[0].shape) == [1, 1]
    assert (request.model_version, wanted.binary("y")) == ("2", True)


def test_whose_bytes_they_are_must_be_plain():
    two = described(("x", "FP32", [-1, 3]), ("z", "FP32", [-1, 3]))
    with pytest.raises(Mistake, match="can be only one input, and there are: x, z"):
        read_raw(ROW, two, "")
    with pytest.raises(Mistake, match="does not follow"):
        inferred("FP32", [-1, -1, -1], 12)


@given(
    st.lists(st.integers(1, 9), max_size=3),
    st.lists(st.integers(1, 9), max_size=3),
    st.integers(0, 50),
    st.sampled_from(("UINT8", "BF16", "FP32", "INT64")),
)
def test_a_shape_follows_from_its_bytes(before, after, free, datatype):
    width = {"UINT8": 1, "BF16": 2, "FP32": 4, "INT64": 8}[datatype]
    size = width * free * math.prod(before + after)
    assert inferred(datatype, [-1, *before, -1, *after], size) == [1, *before, free, *after]
    fixed = [1, *before, *after]
    assert inferred(datatype, [-1, *before, *after], width * math.prod(fixed)) == fixed
    with pytest.raises(Mistake):
        inferred(datatype, [-1, *before, *after], width * (math.prod(fixed) + 1))


def test_what_lies_in_shared_memory_is_not_in_the_answer(site):
    memory = SharedMemory(create=True, size=64)
    try:
        memory.buf[:24] = RAW
        where = "/v2/systemsharedmemory/region/r"
        assert site.told(f"{where}/register", {"key": f"/{memory.name}", "byte_size": 64})[0] == 200
        there = {"shared_memory_region": "r", "shared_memory_byte_size": 24}
        tensor = {"name": "x", "datatype": "FP32", "shape": [2, 3], "parameters": there}
        place = {**there, "shared_memory_byte_size": 8, "shared_memory_offset": 32}
        outputs = [{"name": "y", "parameters": place}]
        for binary in (False, True):
            parameters = {"binary_data_output": binary}
            request = asked(inputs=[tensor], outputs=outputs, parameters=parameters)
            status, answer = site.told(INFER, request)
            assert status == 200
            assert answer["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [2, 1]}]
        assert np.frombuffer(memory.buf[32:40], np.float32).tolist() == [6.0, 15.0]
        status, answer = site.told(INFER, asked(inputs=[{**tensor, "data": ROWS}]))
        assert status == 400
        assert "has data beside shared_memory_region" in answer["error"]
        assert site.told(f"{where}/unregister", {})[0] == 200
    finally:
        memory.close()
        memory.unlink()
