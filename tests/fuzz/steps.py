"""What the steps of models read: pictures and texts of callers, and tokenizers of others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from fuzz.target import Feed, Target, require
from gearshift.core.catalog import TensorSpec
from gearshift.steps import Picture, Tokenize

MOST_PIXELS = 4_096
PIXELS = TensorSpec("pixels", "FP32", (3, 8, 8))
IDS = TensorSpec("ids", "INT64", (8,))


def tokenizer(kind: str = "WordPiece") -> bytes:
    """A small tokenizer.json."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##a", "hello", "."]
    vocabulary = {word: number for number, word in enumerate(words)}
    model: dict[str, object] = {"type": kind, "vocab": vocabulary, "unk_token": "[UNK]"}
    if kind == "WordPiece":
        model |= {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    special = {"[CLS]": 2, "[SEP]": 3}
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": [
                {"id": number, "content": word, "special": True, **flags}
                for number, word in enumerate(words[:4])
            ],
            "normalizer": {"type": "BertNormalizer", "clean_text": True, "lowercase": True,
                           "handle_chinese_chars": True, "strip_accents": None},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                ],
                "pair": [],
                "special_tokens": {
                    word: {"id": word, "ids": [number], "tokens": [word]}
                    for word, number in special.items()
                },
            },
            "model": model,
        }
    ).encode()  # fmt: skip


def _picture() -> Feed:
    step = Picture(
        "picture",
        PIXELS,
        2**20,
        MOST_PIXELS,
        layout="CHW",
        channels="RGB",
        fit="crop",
        mean=[127.5],
        scale=[127.5],
    )

    def feed(data: bytes) -> None:
        try:
            (found,) = step.row(data)
        except ValueError as error:
            require(0 < len(str(error)) < 500, "no reason, or one as long as a picture")
            return
        require(found.shape == PIXELS.shape and found.dtype == np.float32, "another array")
        require(bool(np.all(np.abs(found) <= 1.0)), "pixels beyond 8 bits")

    return feed


def _pictures() -> Sequence[bytes]:
    noise = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    found = []
    for kind, mode, options in (
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("PNG", "LA", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "L", {"quality": 30}),
    ):
        held = BytesIO()
        Image.fromarray(noise).convert(mode).save(held, kind, **options)
        found.append(held.getvalue())
    return found


def _text() -> Feed:
    step = Tokenize("text", tokenizer(), 2**20, ids=IDS)

    def feed(data: bytes) -> None:
        try:
            (found,) = step.row(data)
        except ValueError as error:
            require("UTF-8" in str(error), "another reason")
            return
        require(found.shape == (8,) and found.dtype == np.int64, "another array")
        require(0 <= int(found.min()) <= int(found.max()) < 9, "an id that is none")
        require(int(found[0]) == 2, "it does not begin as texts do")

    return feed


def _tokenizer() -> Feed:
    def feed(data: bytes) -> None:
        try:
            step = Tokenize("text", data, 2**20, ids=IDS)
        except ValueError as error:
            require(0 < len(str(error)) < 1_000, "no reason, or one as long as the file")
            return
        for text in (b"", b"hello a. ab [SEP]", "\u0301\u5b57".encode() * 50):
            (found,) = step.row(text)
            require(found.shape == (8,) and int(found.min()) >= 0, "another array")

    return feed


TARGETS = (
    Target("picture", _picture, _pictures, 2048, (b"IHDR", b"IDAT", b"iCCP", b"\xff\xc2", b"acTL")),
    Target(
        "text",
        _text,
        lambda: [b"hello ab.", "héllo \u5b57 [SEP]".encode(), b"a " * 200],
        1024,
        (b"[SEP]", b"[CL", "\u0301".encode(), b"\xf0\x9f\x99\x82"),
    ),
    Target(
        "tokenizer-json",
        _tokenizer,
        lambda: [tokenizer(), tokenizer("WordLevel")],
        4096,
        (b'"Regex"', b'"BPE"', b'"Unigram"', b'"merges": []', b"4294967295", b'"ByteLevel"'),
    ),
)
