"""Texts to tokens: beside the rows that `text` was trained on, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.compress.families.text_data import windows_of
from gearshift.core.catalog import TensorSpec
from gearshift.steps import Tokenize
from gearshift.steps.texts import checked

FILE = Path(__file__).parents[2] / "model_repo" / "text" / "tokenizer.json"
CONTENT = FILE.read_bytes()
LENGTH = 16
IDS = TensorSpec("ids", "INT64", (LENGTH,))

REFERENCE = tokenizers.Tokenizer.from_str(CONTENT.decode())
REFERENCE.no_truncation()
REFERENCE.no_padding()
"""As `compress.families.text_data.tokenizer` makes it, of the same file."""

WORDS = st.sampled_from(
    ["hello", "world", "Spam", "unbelievable", "a", "é", "x" * 120, "字", ".", "!?", "[SEP]", "[",
     "SEP]", "https://a.b/c?d=e", "\t", "\n", "\u0301", "🙂", "[MA", "SK]", "1234567890"]
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=80),
    st.lists(WORDS, max_size=400).map(" ".join),
    st.lists(WORDS, max_size=400).map("".join),
)


def tiny(**changes: object) -> bytes:
    """A tokenizer.json of three words."""
    document = {
        "version": "1.0",
        "added_tokens": [{"id": 0, "content": "[PAD]", "special": True, "single_word": False,
                          "lstrip": False, "rstrip": False, "normalized": False}],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "model": {"type": "WordLevel", "vocab": {"[PAD]": 0, "a": 1, "b": 2, "?": 3},
                  "unk_token": "?"},
    }  # fmt: skip
    return json.dumps({**document, **changes}).encode()


STEP = Tokenize("text", CONTENT, 2**20, ids=IDS)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_tokens_are_those_of_the_training_rows(text):
    (expected,) = windows_of(REFERENCE.encode(text).ids, LENGTH, 1)
    (found,) = STEP.row(text.encode())
    assert found.dtype == np.int64
    assert found.tolist() == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(WORDS, min_size=300, max_size=600), st.sampled_from(["", " "]))
def test_a_text_is_read_only_as_far_as_it_matters(words, between):
    """And what is read of it is enough, wherever it was cut."""
    text = between.join(words)
    begun = STEP._beginning(text)
    assert text.startswith(begun)
    (expected,) = windows_of(REFERENCE.encode(text).ids, LENGTH, 1)
    assert STEP.row(text.encode())[0].tolist() == expected


def test_a_word_that_the_beginning_would_cut_is_read_to_its_end():
    """It is too long for any piece, and its first half is not."""
    text = "a" + " " * 200 + "qz" * 75
    (expected,) = windows_of(REFERENCE.encode(text).ids, LENGTH, 1)
    assert STEP.row(text.encode())[0].tolist() == expected


def test_a_long_text_costs_no_more_than_its_beginning():
    text = "some words of a text that goes on " * 10_000
    assert len(STEP._beginning(text)) < 2_000


def test_a_mask_and_types_where_the_network_takes_them():
    ids = TensorSpec("ids", "INT32", (4,))
    step = Tokenize(
        "t",
        tiny(),
        100,
        ids=ids,
        mask=TensorSpec("mask", "INT64", (4,)),
        types=TensorSpec("types", "INT32", (4,)),
    )
    assert step.takes == TensorSpec("t", "BYTES", (1,))
    assert [spec.name for spec in step.makes] == ["ids", "mask", "types"]
    found = step.row(b"A b zzz")
    assert [array.tolist() for array in found] == [[1, 2, 3, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    assert [array.dtype for array in found] == [np.int32, np.int64, np.int32]
    assert step.row(b"a b a b a b")[0].tolist() == [1, 2, 1, 2]
    assert step.row(b"")[0].tolist() == [0, 0, 0, 0]


def test_a_text_that_is_none():
    with pytest.raises(ValueError, match=r"is no text in UTF-8 \(byte 2\)"):
        STEP.row(b"ab\xff")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"{", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "has no `model`"),
        (tiny(model={"type": "Evil"}), "model 'Evil' is not served; there are BPE"),
        (tiny(model={"vocab": {}}), "its model has no type"),
        (
            tiny(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "x"}),
            "pre_tokenizer Split has a regular expression",
        ),
        (
            tiny(normalizer={"type": "Sequence", "normalizers": [{"type": "Precompiled"}]}),
            "normalizer 'Precompiled' is not served",
        ),
        (tiny(normalizer=[1]), "normalizer is no description of one"),
        (tiny(normalizer={"type": "Sequence", "normalizers": 1}), "normalizers is no list"),
        (tiny(added_tokens=[{"content": "x" * 300}]), "content of 1 to 256 characters"),
        (tiny(added_tokens=[1]), "content of 1 to 256 characters"),
        (tiny(added_tokens=[{"content": "a"}] * 5_000), "a list of at most 4096"),
        (tiny(model={"type": "WordLevel"}), "unk_token 'None', .*, is not in its vocabulary"),
        (
            tiny(model={"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "[UNK]"}),
            "unk_token '\\[UNK\\]', .*, is not in its vocabulary",
        ),
        (tiny(model={"type": "Unigram", "vocab": [["a", 0.0]]}), "has no unk_id"),
        (tiny(model={"type": "BPE", "vocab": {"a": 0}}), "`tokenizers` does not take it"),
        (
            tiny(model={"type": "WordLevel", "vocab": {"a": 3 * 10**9}, "unk_token": "a"}),
            r"ids below 2\*\*31",
        ),
        (
            tiny(post_processor={
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "a", "type_id": 0}}] * 40,
                "pair": [],
                "special_tokens": {"a": {"id": "a", "ids": [1], "tokens": ["a"]}},
            }),
            "does not",
        ),
    ],
)  # fmt: skip
def test_files_that_are_not_served(content, text):
    with pytest.raises(ValueError, match=text):
        Tokenize("t", content, 10, ids=IDS)


def deep(levels: int) -> bytes:
    inner: object = {"type": "Lowercase"}
    for _ in range(levels):
        inner = {"type": "Sequence", "normalizers": [inner]}
    return tiny(normalizer=inner)


def test_parts_within_parts_have_an_end():
    checked(deep(10))
    with pytest.raises(ValueError, match="normalizer is no description"):
        checked(deep(40))


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"ids": TensorSpec("ids", "FP32", (8,))}, "tokens need INT32 or INT64"),
        ({"ids": TensorSpec("ids", "INT64", (2,))}, "one axis of 3 or more"),
        ({"ids": TensorSpec("ids", "INT64", (8, 8))}, "one axis of 3 or more"),
        ({"ids": IDS, "mask": TensorSpec("m", "INT64", (8,))}, "one length, \\[16\\]"),
    ],
)
def test_inputs_that_take_no_tokens(inputs, text):
    with pytest.raises(ValueError, match=text):
        Tokenize("t", tiny(), 10, **inputs)


def test_a_missing_package_is_said_with_what_to_do(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=r"pip install 'gearshift\[steps\]'"):
        Tokenize("t", tiny(), 10, ids=IDS)
