"""Inference over HTTP/REST, right and wrong, as data. The models are those of `cases`."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from conformance.cases import CONTENTS, DATATYPES, ROW
from conformance.rest import HEADER_LENGTH, RestCase, inferred, named, typed

VALUES = {
    **{datatype: values for datatype, (_, values, _) in CONTENTS.items()},
    "BYTES": ["", "a", "\u00e4\u0000"],
    "FP16": [-1.5, 0.0, 2.5],
    "BF16": [-1.5, 0.0, 2.5],
}
VERSION_9 = "/v2/models/sum/versions/9/infer"
ALL_BINARY = {"binary_data_output": True}


def tensor(**changes: Any) -> dict[str, Any]:
    """One row for `sum`; what is None is left out."""
    found = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3], **changes}
    return {name: value for name, value in found.items() if value is not None}


def asked(*inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"inputs": list(inputs) or [tensor()], **more}


def raw_of(datatype: str) -> bytes:
    values = VALUES[datatype]
    if datatype == "BYTES":
        texts = [value.encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    if datatype == "BF16":
        # The upper halves of float32.
        return b"".join(struct.pack("<f", value)[2:] for value in values)
    return np.array(values, CONTENTS.get(datatype, ("", [], np.float16))[2]).tobytes()


def binary(name: str, head: Any, raw: bytes, model: str = "sum", **more: Any) -> RestCase:
    """With binary data behind the JSON; `length` says otherwise how much of it is JSON."""
    text = json.dumps(head).encode()
    length = more.pop("length", str(len(text)))
    headers = {HEADER_LENGTH: length, **more.pop("headers", {})}
    return infer(name, text + raw, model, headers=headers, **more)


def infer(name: str, body: Any, model: str = "sum", **more: Any) -> RestCase:
    path = more.pop("path", f"/v2/models/{model}/infer")
    look = named if isinstance(body, dict) and "id" in body else inferred
    return RestCase(f"REST infer: {name}", path, body, more.pop("look", look), **more)


def sized(size: Any = 12, **changes: Any) -> dict[str, Any]:
    """A tensor whose data are binary."""
    return tensor(data=None, parameters={"binary_data_size": size}, **changes)


def inference_cases() -> Iterator[RestCase]:
    yield from _right()
    yield from _datatypes()
    yield from _binary()
    yield from _packed()
    yield from _wrong()
    yield from _wrong_json()
    yield from _wrong_binary()
    yield from _parameters()


def _right() -> Iterator[RestCase]:
    yield infer("one row", asked())
    yield infer("as JSON", asked(), look=typed)
    yield infer("a batch", asked(tensor(shape=[2, 3], data=[1, 2, 3, 4, 5, 6])))
    yield infer("nested values", asked(tensor(shape=[2, 3], data=[[1, 2, 3], [4, 5, 6]])))
    yield infer("values nested otherwise", asked(tensor(data=[[1], [2, 3]])))
    yield infer("an id", asked(id="mine"))
    yield infer("an id that is a number", asked(id=7))
    yield infer("the output named", asked(outputs=[{"name": "y"}]))
    yield infer("no outputs wanted", asked(outputs=[]))
    yield infer("one of two outputs", asked(outputs=[{"name": "z"}]), "two")
    yield infer("two outputs, other order", asked(outputs=[{"name": "z"}, {"name": "y"}]), "two")
    yield infer("the same output twice", asked(outputs=[{"name": "y"}, {"name": "y"}]), "two")
    for version in ("1", "2", "9", "abc", "-1"):
        path = f"/v2/models/sum/versions/{version}/infer"
        yield infer(f"version {version}", asked(), path=path)
    yield infer("unknown model", asked(), "nobody")
    yield infer("a slash in the model's name", asked(), "su%2Fm")
    yield infer("a model's name in percents", asked(), "s%75m")
    yield infer("a key that the protocol does not know", asked(bogus=1))
    yield infer("the model's name again", asked(model_name="sum"))
    yield infer("another model's name again", asked(model_name="two"))
    yield infer("another content type", asked(), headers={"Content-Type": "text/plain"})
    large = {"inputs": [sized(4 * 524_288, shape=[1, 524_288])]}
    yield binary("a large message", large, bytes(4 * 524_288), "wide")


def _datatypes() -> Iterator[RestCase]:
    for datatype in DATATYPES:
        about = {"datatype": datatype}
        given = tensor(data=VALUES[datatype], **about)
        yield infer(f"{datatype} in JSON", asked(given), datatype)
        raw = raw_of(datatype)
        head = asked(sized(len(raw), **about), parameters=ALL_BINARY)
        yield binary(f"{datatype} as binary data", head, raw, datatype)
        yield binary(f"{datatype} from binary data", asked(sized(len(raw), **about)), raw, datatype)
    for datatype, value in (
        *(("INT8", 1_000), ("UINT8", -1), ("INT64", 2**63), ("UINT64", 2**64)),
        *(("INT32", 1.5), ("INT32", 1.0), ("INT32", True), ("INT32", "1"), ("INT32", None)),
        *(("BOOL", 1), ("BOOL", 2), ("BOOL", "true"), ("FP32", "1"), ("FP32", True)),
        *(("FP32", 1e300), ("FP64", 10**400), ("FP16", 1e6), ("FP32", None), ("BYTES", 1)),
    ):
        given = tensor(datatype=datatype, data=[value, value, value])
        told = "10**400" if isinstance(value, int) and value > 2**64 else json.dumps(value)
        yield infer(f"{told} as {datatype}", asked(given), datatype)


def _binary() -> Iterator[RestCase]:
    both = asked(sized(), outputs=[{"name": "y", "parameters": {"binary_data": True}}])
    yield binary("binary in, binary out by output", both, ROW)
    yield binary("how binary data are to be read", both, ROW, look=typed)
    wanted = asked(outputs=[{"name": "y", "parameters": {"binary_data": True}}])
    yield infer("JSON in, binary out", wanted)
    yield infer("JSON in, all binary out", asked(parameters=ALL_BINARY))
    mixed = [{"name": "y", "parameters": {"binary_data": True}}, {"name": "z"}]
    yield infer("one output binary, the other not", asked(outputs=mixed), "two")
    but = [{"name": "y", "parameters": {"binary_data": False}}, {"name": "z"}]
    yield infer("all outputs binary but one", asked(outputs=but, parameters=ALL_BINARY), "two")
    yield infer("binary_data_output = false", asked(parameters={"binary_data_output": False}))
    yield infer("binary_data_output = 1", asked(parameters={"binary_data_output": 1}))
    wrong = [{"name": "y", "parameters": {"binary_data": "yes"}}]
    yield infer("binary_data = yes", asked(outputs=wrong))
    whole = json.dumps(asked()).encode()
    yield infer(
        "all of it is JSON, and it says so", whole, headers={HEADER_LENGTH: str(len(whole))}
    )
    raw = {HEADER_LENGTH: "0"}
    yield infer("raw bytes and no JSON", ROW, headers=raw)
    yield infer("raw bytes, too few", ROW[:-1], headers=raw)
    yield infer("raw bytes of two rows", ROW * 2, headers=raw)
    yield infer("raw bytes, none", b"", headers=raw)
    yield infer("raw bytes for an unknown model", ROW, "nobody", headers=raw)
    yield infer("raw bytes for an unknown version", ROW, headers=raw, path=VERSION_9)
    yield infer("raw bytes of more than one element of BYTES", b"abc", "BYTES", headers=raw)
    top = asked(outputs=[{"name": "y", "parameters": {"classification": 1}}])
    yield infer("classification", top)
    top = asked(
        tensor(datatype="FP32"), outputs=[{"name": "y", "parameters": {"classification": 2}}]
    )
    yield infer("classification of three", top, "FP32")
    top["outputs"][0]["parameters"]["binary_data"] = True
    yield infer("classification as binary data", top, "FP32")


def _packed() -> Iterator[RestCase]:
    whole = json.dumps(asked()).encode()
    for name, packed in (("gzip", gzip.compress(whole)), ("deflate", zlib.compress(whole))):
        yield infer(name, packed, headers={"Content-Encoding": name})
        yield infer(f"{name} wanted", asked(), headers={"Accept-Encoding": name}, look=_unpacked)
    head = json.dumps(asked(sized())).encode()
    about = {"Content-Encoding": "gzip", HEADER_LENGTH: str(len(head))}
    yield infer("gzip of binary data", gzip.compress(head + ROW), headers=about)
    yield infer("no gzip", whole, headers={"Content-Encoding": "gzip"})
    yield infer("gzip cut short", gzip.compress(whole)[:-12], headers={"Content-Encoding": "gzip"})
    yield infer("an encoding that nobody knows", whole, headers={"Content-Encoding": "br"})
    yield infer("identity", whole, headers={"Content-Encoding": "identity"})


def _unpacked(answer: Any) -> Any:
    """It may be packed as was said, or not at all."""
    body = answer.body
    encoding = answer.headers.get("content-encoding")
    if encoding is not None:
        body = zlib.decompress(body, zlib.MAX_WBITS | 32)
    return [encoding, json.loads(body)["outputs"]]


def _wrong() -> Iterator[RestCase]:
    yield infer("wrong input name", asked(tensor(name="z")))
    yield infer("wrong datatype", asked(tensor(datatype="FP64")))
    yield infer("no such datatype", asked(tensor(datatype="FP8")))
    yield infer("wrong shape", asked(tensor(shape=[1, 4], data=[1, 2, 3, 4])))
    yield infer("too few dimensions", asked(tensor(shape=[3])))
    yield infer("too many dimensions", asked(tensor(shape=[1, 3, 1])))
    yield infer("a dimension below 0", asked(tensor(shape=[-1, 3])))
    yield infer("a dimension that is no whole number", asked(tensor(shape=[1.5, 3])))
    yield infer("a dimension that is huge", asked(tensor(shape=[2**63 - 1, 3])))
    yield infer("a dimension beyond 64 bits", asked(tensor(shape=[2**70, 3])))
    yield infer("more rows than allowed", asked(tensor(shape=[9, 3], data=[1] * 27)))
    yield infer("no rows", asked(tensor(shape=[0, 3], data=[])))
    yield infer("too few values", asked(tensor(data=[1, 2])))
    yield infer("too many values", asked(tensor(data=[1, 2, 3, 4])))
    yield infer("an input twice", asked(tensor(), tensor()))
    yield infer("an input too many", asked(tensor(), tensor(name="z")))
    yield infer("no inputs", {"inputs": []})
    yield infer("unknown output", asked(outputs=[{"name": "z"}]))
    for key in ("name", "datatype", "shape", "data"):
        yield infer(f"an input without {key}", asked(tensor(**{key: None})))
    yield infer("an output without name", asked(outputs=[{}]))


def _wrong_json() -> Iterator[RestCase]:
    yield infer("an empty body", b"")
    yield infer("no JSON", b"{")
    yield infer("a text", b'"a"')
    yield infer("a list", b"[]")
    yield infer("an empty object", b"{}")
    yield infer("something behind the JSON", json.dumps(asked()).encode() + b"x")
    yield infer("no UTF-8", b'{"id": "\xff", "inputs": []}')
    for value in ("NaN", "Infinity", "1e999", "nan", "01", "+1", "1.", "'1'"):
        body = json.dumps(asked(tensor(data=[0, 2, 3]))).replace("[0,", f"[{value},")
        yield infer(f"{value} in JSON", body.encode())
    yield infer("a key twice", b'{"inputs": [], ' + json.dumps(asked()).encode()[1:])
    yield infer("deep JSON", b"[" * 100_000 + b"]" * 100_000)
    deep = "[" * 200 + "1, 2, 3" + "]" * 200
    yield infer("deep data", json.dumps(asked(tensor(data="?"))).replace('"?"', deep).encode())
    # JSON has a way to write what is no text in any encoding.
    half = "\ud800"
    yield infer("half a pair of surrogates as id", asked(id=half))
    yield infer("half a pair of surrogates as the name of an input", asked(tensor(name=half)))
    yield infer("half a pair of surrogates as datatype", asked(tensor(datatype=half)))
    text = tensor(datatype="BYTES", data=[half, "", ""])
    yield infer("half a pair of surrogates as a value", asked(text), "BYTES")
    yield infer("half a pair of surrogates as a key", asked(**{half: 1}))
    yield infer("inputs is an object", {"inputs": tensor()})
    yield infer("inputs is null", {"inputs": None})
    yield infer("an input is a number", {"inputs": [1]})
    yield infer("data is a number", asked(tensor(data=1)))
    yield infer("data is an object", asked(tensor(data={"a": 1})))
    yield infer("shape is a text", asked(tensor(shape="1,3")))
    yield infer("outputs is a text", asked(outputs="y"))
    yield infer("parameters is a list", asked(parameters=[]))
    yield infer("outputs is null", asked(outputs=None))
    yield infer("parameters is null", asked(parameters=None))


def _wrong_binary() -> Iterator[RestCase]:
    yield binary("too few binary bytes", asked(sized()), ROW[:-1])
    yield binary("too many binary bytes", asked(sized()), ROW + b"\0")
    yield binary("a size that is less than the shape", asked(sized(8)), ROW[:8])
    yield binary("a size below 0", asked(sized(-1)), ROW)
    yield binary("a size that is true", asked(sized(True)), ROW)
    yield binary("a size that is a text", asked(sized("12")), ROW)
    yield binary("data and a size", asked(sized() | {"data": [1, 2, 3]}), ROW)
    yield infer("a size and no binary data", asked(sized()))
    yield infer("binary data and no header", json.dumps(asked(sized())).encode() + ROW)
    for length in (
        "5",
        "9999",
        "-1",
        "abc",
        "",
        "18446744073709551616",
        "0",
        "\u00b2",
        "9" * 5_000,
    ):
        told = length[:20] or "empty"
        yield binary(f"header length {told}", asked(sized()), ROW, length=length)
    size = len(json.dumps(asked(sized()))) + 1
    yield binary("header length one too many", asked(sized()), ROW, length=str(size))
    cut = struct.pack("<I", 99) + b"a"
    about = {"datatype": "BYTES"}
    yield binary("BYTES cut short", asked(sized(len(cut), **about)), cut, "BYTES")
    few = struct.pack("<I", 1) + b"a"
    yield binary("BYTES with elements missing", asked(sized(len(few), **about)), few, "BYTES")
    not_text = raw_of("BYTES").replace(b"a", b"\xff")
    head = asked(sized(len(not_text), **about))
    yield binary("BYTES that are no text, in JSON", head, not_text, "BYTES", look=lambda _: None)


def _parameters() -> Iterator[RestCase]:
    for name, value in (
        *(("priority", 1), ("priority", 9), ("priority", -1), ("priority", "high")),
        *(("timeout", 5_000_000), ("timeout", "soon"), ("timeout", -1), ("timeout", 1.5)),
        *(("sequence_id", 3), ("sequence_id", "three"), ("sequence_id", True)),
        *(("sequence_start", True), ("sequence_end", True), ("sequence_start", 1)),
        *(("triton_enable_empty_final_response", True), ("triton_unknown", True)),
        *(("latency_budget_ms", 2_000), ("min_accuracy", 0.5), ("nobody_knows", 1)),
        *(("nobody_knows", None), ("nobody_knows", [1]), ("nobody_knows", {"a": 1})),
        *(("headers", "x"), ("latency_budget_ms", 2**64), ("nobody_knows", 10**400)),
    ):
        told = "10**400" if value == 10**400 else json.dumps(value)
        yield infer(f"parameter {name} = {told}", asked(parameters={name: value}))
    for level in (0, 1, 2, 3):
        yield infer(f"priority {level} of 2", asked(parameters={"priority": level}), "levels")
    yield infer("an unknown parameter of an input", asked(tensor(parameters={"nobody_knows": 1})))
    outputs = [{"name": "y", "parameters": {"nobody_knows": 1}}]
    yield infer("an unknown parameter of an output", asked(outputs=outputs))
