"""`text` called with texts and `face` with pictures, through every front door there is."""

from __future__ import annotations

import json
import urllib.request
from io import BytesIO

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from PIL import Image
from tritonclient.utils import InferenceServerException

from gearshift.client import Client, InvalidRequest
from gearshift.demo.mails import MAILS, SPAM
from serving import ROOT, gearshift

SENT = np.array([[mail.encode()] for mail, _ in MAILS], object)


def names(probabilities):
    """The labels of rows of probabilities, (rows, 2)."""
    return [[(b"ham", b"spam")[row]] for row in np.argmax(probabilities, axis=1)]


def picture(side: int = 112, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    held = BytesIO()
    Image.fromarray(pixels).save(held, kind)
    return held.getvalue()


def tensor(module, name, array, datatype):
    made = module.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def test_texts_over_grpc(client, server):
    answer = client.infer("text", [tensor(triton, "text", SENT, "BYTES")])
    labels = answer.as_numpy("label").tolist()
    assert labels == names(answer.as_numpy("probabilities"))
    # They are none of the corpus that it learned from: most must be right, not all.
    right = [[b"spam" if label == SPAM else b"ham"] for _, label in MAILS]
    assert sum(a == b for a, b in zip(labels, right, strict=True)) > len(right) / 2
    told = answer.get_response().parameters
    assert 0 < told["prepare_us"].int64_param <= told["queue_us"].int64_param
    (count,) = server.samples("gearshift_prepare_duration_seconds_count", model="text").values()
    assert count >= 1.0


def test_ids_as_before(client):
    """Eight rows of nothing but padding: no sense, but an answer."""
    ids = np.zeros((8, 128), np.int64)
    answer = client.infer("text", [tensor(triton, "input_ids", ids, "INT64")])
    assert answer.as_numpy("probabilities").shape == (8, 2)


def test_texts_in_json(client, server):
    body = {
        "inputs": [
            {"name": "text", "datatype": "BYTES", "shape": [len(MAILS), 1],
             "data": [mail for mail, _ in MAILS]}
        ],
        "outputs": [{"name": "label"}, {"name": "probabilities",
                                        "parameters": {"classification": 1}}],
    }  # fmt: skip
    asked = urllib.request.Request(
        f"{server.http}/v2/models/text/infer", json.dumps(body).encode(), method="POST"
    )
    with urllib.request.urlopen(asked, timeout=20) as response:
        answer = json.load(response)
    label, classes = answer["outputs"]
    same = client.infer("text", [tensor(triton, "text", SENT, "BYTES")])
    assert label["data"] == [name.decode() for (name,) in same.as_numpy("label").tolist()]
    assert [text.split(":")[2] for text in classes["data"]] == label["data"]
    assert answer["parameters"]["prepare_us"] > 0


def test_pictures_give_what_pixels_give(client, server):
    pixels = np.asarray(Image.open(BytesIO(picture())))[None]
    sent = np.array([[picture()]], object)
    options = {"model_version": "2"}
    by_picture = client.infer("face", [tensor(triton, "picture", sent, "BYTES")], **options)
    by_pixels = client.infer("face", [tensor(triton, "faces", pixels, "UINT8")], **options)
    expected = by_pixels.as_numpy("embedding")
    assert np.array_equal(by_picture.as_numpy("embedding"), expected)
    with triton_http.InferenceServerClient(server.http.removeprefix("http://")) as rest:
        over_rest = rest.infer("face", [tensor(triton_http, "picture", sent, "BYTES")], **options)
        assert np.array_equal(over_rest.as_numpy("embedding"), expected)
        assert rest.get_model_metadata("face")["inputs"] == [
            {"name": "picture", "datatype": "BYTES", "shape": [-1, 1]}
        ]


def test_the_typed_client(server):
    with Client(server.grpc) as client:
        answer = client.infer("text", {"text": SENT}, budget=5.0)
        assert answer["label"].tolist() == names(answer["probabilities"])
        with pytest.raises(InvalidRequest, match="row 0: is no picture that is read here"):
            client.infer("face", {"picture": np.array([[b"GIF89a"]], object)})


def test_a_picture_too_large_is_refused_by_its_header(client):
    with pytest.raises(InferenceServerException, match="at most 16777216 are decoded") as caught:
        client.infer("face", [tensor(triton, "picture", bomb(), "BYTES")])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def bomb():
    whole = bytearray(picture())
    whole[16:24] = (50_000).to_bytes(4, "big") * 2
    # The checksum of the header is that of what it says.
    import zlib

    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
    return np.array([[bytes(whole)]], object)


def test_explain_and_check_go_by_rows_as_ever(server):
    explained = gearshift("explain", "text", "--address", server.grpc, "--json")
    assert explained.returncode == 0, explained.stderr
    assert json.loads(explained.stdout)["chosen"] == "student-int8"
    checked = gearshift("check", "--repository", str(ROOT / "model_repo"))
    assert checked.returncode == 0
