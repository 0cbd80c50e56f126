"""Mistakes in inference requests over HTTP: each is told, with what would be right."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gearshift.http.rest.infer import LARGEST_JSON
from grpc_bench import GrpcBench
from rest_site import INFER, MOST, RAW, Site, asked


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    bench = GrpcBench()
    made = Site(bench)
    yield made
    made.server.stop()
    bench.stop()


@pytest.mark.parametrize(
    ("request_", "status", "text"),
    [
        (b"{", 400, "the request is no JSON"),
        (b"[]", 400, "the request must be an object"),
        (b"[" * 100_000, 400, "no JSON"),
        ({"input": []}, 400, "unknown key 'input'; there are"),
        ({}, 400, "inputs must be a list"),
        (asked(id=7), 400, "id must be a text"),
        (asked(model_name="other"), 400, "model_name is 'other', and the path says 'm'"),
        (asked(model_version=2), 400, "model_version is 2, and the path says ''"),
        (asked(inputs=[3]), 400, "inputs[0] must be an object"),
        (asked(parameters={"a": [1]}), 400, "parameters.a must be a truth value, a number or"),
        (asked(parameters={"a": 10**400}), 400, "parameters.a is too large"),
        (asked(parameters={"budget": 1}), 400, "budget"),
        (asked(id="\ud800"), 400, "id is no text: it has half a pair of surrogates"),
        (asked(**{"\ud800": 1}), 400, "unknown key '\\ud800'"),
        (asked(parameters={"\ud800": 1}), 400, "half a pair of surrogates"),
        (
            asked(inputs=[{"name": "x", "datatype": "BYTES", "shape": [1, 1], "data": ["\ud800"]}]),
            400,
            "half a pair of surrogates",
        ),
        (
            asked(inputs=[{"name": "x", "datatype": "\ud800", "shape": [1, 1], "data": []}]),
            400,
            "half a pair of surrogates",
        ),
        (asked(outputs=[{"name": "z"}]), 400, "no output 'z'"),
        (asked(inputs=[{"name": "x", "datatype": "FP32", "shape": [1.5]}]), 400, "1.5"),
        (asked(inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 3]}]), 400, "must be a list"),
        (
            asked(inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": ["a"]}]),
            400,
            "'a' is no value of FP32",
        ),
        (
            asked(inputs=[{"name": "x", "datatype": "UINT8", "shape": [1, 3], "data": [256]}]),
            400,
            "out of the range of UINT8",
        ),
        (
            asked(inputs=[{"name": "x", "datatype": "BF16", "shape": [1, 3], "data": [1.0]}]),
            400,
            "send them as binary data",
        ),
        (
            asked(inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1e300]}]),
            400,
            "out of the range of FP32",
        ),
        (
            asked(parameters={"binary_data_output": 1}),
            400,
            "parameters.binary_data_output must be true or false",
        ),
        (
            asked(outputs=[{"name": "y", "parameters": {"binary_data": "yes"}}]),
            400,
            "outputs[0].parameters.binary_data must be true or false",
        ),
        (b" " * (LARGEST_JSON + 1), 413, "send tensors as binary data"),
        (b" " * (MOST + 1), 413, "larger than 4194304 bytes (max_message_bytes)"),
    ],
)
def test_mistakes_are_told(site, request_, status, text):
    found, answer = site.told(INFER, request_)
    assert found == status
    assert text in answer["error"]


@pytest.mark.parametrize(
    ("length", "size", "text"),
    [
        ("x", 24, "must be a whole number"),
        ("\u00b2", 24, "must be a whole number"),
        ("9" * 5_000, 24, "must be a whole number"),
        (None, True, "binary_data_size is True"),
        ("100000", 24, "and the body has"),
        (None, 25, "24 bytes are left"),
        (None, 23, "24 bytes of binary data came, and the inputs take 23"),
        (None, -1, "binary_data_size is -1"),
        (None, "a", "binary_data_size is 'a'"),
    ],
)
def test_mistakes_in_binary_requests(site, length, size, text):
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 3]}
    tensor["parameters"] = {"binary_data_size": size}
    head = json.dumps({"inputs": [tensor]}).encode()
    length = str(len(head)) if length is None else length
    status, answer = site.told(INFER, head + RAW, Inference_Header_Content_Length=length)
    assert status == 400
    assert text in answer["error"]


def test_data_and_binary_data_exclude_each_other(site):
    request = asked()
    request["inputs"][0]["parameters"] = {"binary_data_size": 24}
    head = json.dumps(request).encode()
    length = str(len(head))
    status, answer = site.told(INFER, head + RAW, Inference_Header_Content_Length=length)
    assert status == 400
    assert "has data beside binary_data_size" in answer["error"]
