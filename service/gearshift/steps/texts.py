"""From a text to the ids of its tokens, by Hugging Face's `tokenizers` (extra `steps`).

What says how is `tokenizer.json`, the file that goes with a published model. It is foreign: looked
at before the library reads it, by an allow list. Regular expressions in it are refused, since one
that backtracks can take hours over a short text, and so is what holds tables in binary form.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from gearshift.core.catalog import TensorSpec
from gearshift.core.steps import Before
from gearshift.ports import Array

LARGEST_FILE = 32 * 2**20
"""Bytes of a tokenizer.json: those of large languages models have 10 to 20 million."""

MOST_ADDED = 4_096
"""Tokens beside the vocabulary."""

LONGEST_ADDED = 256
"""Characters of one of those."""

DEEPEST = 16

ALLOWED: Mapping[str, tuple[str, ...]] = {
    "normalizer": (
        *("BertNormalizer", "ByteLevel", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Prepend"),
        *("Replace", "Sequence", "Strip", "StripAccents"),
    ),
    "pre_tokenizer": (
        *("BertPreTokenizer", "ByteLevel", "Digits", "Metaspace", "Punctuation", "Sequence"),
        *("Split", "Whitespace", "WhitespaceSplit"),
    ),
    "model": ("BPE", "Unigram", "WordLevel", "WordPiece"),
    "post_processor": (
        *("BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"),
    ),
}
"""What each part may be."""

LOCAL_WORDS = frozenset({"BertPreTokenizer", "Whitespace", "WhitespaceSplit"})
"""Cut a text into words by looking at a few characters around each cut."""

PREFIX, GROWTH = 16, 4
"""Characters for each token that are looked at first, and how much more each time that they do not
do: a word has about six."""


def pip(package: str) -> str:
    """What to do where a package is missing."""
    return f"needs the package {package}, which is not installed: pip install 'gearshift[steps]'"


def checked(content: bytes) -> dict[str, Any]:
    """The document in a tokenizer.json, without what is not needed. ValueError with a sentence for
    one that the library must not read."""
    if len(content) > LARGEST_FILE:
        raise ValueError(f"has {len(content)} bytes; at most {LARGEST_FILE} are read")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        raise ValueError("is no tokenizer.json: it has no `model`")
    for part, allowed in ALLOWED.items():
        for kind in _kinds(document.get(part), part):
            if kind not in allowed:
                known = ", ".join(allowed)
                raise ValueError(f"{part} {str(kind)[:60]!r} is not served; there are {known}")
    _check_unknown(document["model"])
    added = document.get("added_tokens") or []
    if not isinstance(added, list) or len(added) > MOST_ADDED:
        raise ValueError(f"added_tokens must be a list of at most {MOST_ADDED}")
    for token in added:
        text = token.get("content") if isinstance(token, dict) else None
        if not isinstance(text, str) or not 0 < len(text) <= LONGEST_ADDED:
            raise ValueError(f"an added token needs a content of 1 to {LONGEST_ADDED} characters")
    # How a text is cut and filled up is the step's business, and nothing is decoded here.
    return {**document, "truncation": None, "padding": None, "decoder": None}


def _check_unknown(model: Mapping[str, Any]) -> None:
    """What the vocabulary does not have becomes a token that stands for it. Without one the
    library would fail at the first text that needs it."""
    if model["type"] == "Unigram":
        if model.get("unk_id") is None:
            raise ValueError("its model has no unk_id, the token for what it does not know")
        return
    token, vocabulary = model.get("unk_token"), model.get("vocab")
    if token is None and model["type"] == "BPE":
        return  # It leaves out what it does not know.
    if not isinstance(vocabulary, dict) or not isinstance(token, str) or token not in vocabulary:
        raise ValueError(
            f"its model's unk_token {str(token)[:60]!r}, the token for what it does not know, is"
            " not in its vocabulary"
        )


def _kinds(part: object, name: str, depth: int = 0) -> Iterator[object]:
    """The kinds of a part, and of those that it is made of."""
    if part is None and name != "model":
        return
    if not isinstance(part, dict) or depth > DEEPEST:
        raise ValueError(f"{name} is no description of one")
    kind = part.get("type")
    if kind is None and name == "model":
        # Files of old have none; which it is, the library guesses, and we need not.
        raise ValueError("its model has no type; save it with a newer version of `tokenizers`")
    yield kind
    pattern = part.get("pattern")
    if isinstance(pattern, dict) and set(pattern) != {"String"}:
        raise ValueError(f"{name} {kind} has a regular expression, and those are not served")
    for key in ("normalizers", "pretokenizers", "processors"):
        inner = part.get(key, [])
        if not isinstance(inner, list):
            raise ValueError(f"{name} {kind}: {key} is no list")
        for each in inner:
            yield from _kinds(each, name, depth + 1)


class Tokenize(Before):
    """A text in UTF-8 becomes as many ids as the network takes: what is more is cut off at the
    end, what is less is filled up. Beside them, where the network has inputs for it, a mask (1
    where there is a token, 0 where it was filled up) and type ids (0)."""

    kind = "tokenize"

    def __init__(
        self,
        input: str,
        content: bytes,
        most_bytes: int,
        *,
        ids: TensorSpec,
        mask: TensorSpec | None = None,
        types: TensorSpec | None = None,
    ) -> None:
        """`content` is a tokenizer.json. ValueError with a sentence for one that is not served, for
        inputs that are no rows of whole numbers, and where the package is missing."""
        document = checked(content)
        self.takes = TensorSpec(input, "BYTES", (1,))
        self.makes = tuple(spec for spec in (ids, mask, types) if spec is not None)
        self.most_bytes = most_bytes
        for spec in self.makes:
            if spec.datatype not in ("INT32", "INT64") or spec.shape != ids.shape:
                raise ValueError(
                    f"input {spec.name!r} is {spec.datatype} {list(spec.shape)}; tokens need INT32"
                    f" or INT64, and one length, {list(ids.shape)}"
                )
        if len(ids.shape) != 1 or ids.shape[0] < 3:
            raise ValueError(
                f"input {ids.name!r} has shape {list(ids.shape)}; tokens need one axis of 3 or more"
            )
        self._length = ids.shape[0]
        self._attributes = [
            name
            for name, spec in (("ids", ids), ("attention_mask", mask), ("type_ids", types))
            if spec is not None
        ]
        self._dtypes = [np.dtype(triton_to_np_dtype(spec.datatype)) for spec in self.makes]
        self._whole, self._cut = _tokenizers(document, self._length)
        self._margin = _margin(document)

    def row(self, sent: bytes) -> Sequence[Array]:
        try:
            text = sent.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"is no text in UTF-8 (byte {error.start})") from None
        encoding = self._cut.encode(self._beginning(text))
        return [
            np.array(getattr(encoding, name), dtype)
            for name, dtype in zip(self._attributes, self._dtypes, strict=True)
        ]

    def _beginning(self, text: str) -> str:
        """As much of a text as its first tokens depend on: to cut a whole book into tokens for the
        first hundred would take as long as the book is long."""
        size = PREFIX * self._length
        while self._margin and size < len(text):
            encoding = self._whole.encode(text[:size], add_special_tokens=False)
            if len(encoding) > self._length:
                last = encoding.word_ids[self._length - 1]
                # The next word begins so far from the cut that nothing before it can change.
                for word, (start, _) in zip(
                    encoding.word_ids[self._length :],
                    encoding.offsets[self._length :],
                    strict=True,
                ):
                    if word != last and start <= size - self._margin:
                        return text[:size]
            size *= GROWTH
        return text


def _tokenizers(document: Mapping[str, Any], length: int) -> tuple[Any, Any]:
    """One that takes texts as they are, and one that makes `length` ids of each."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ValueError(pip("tokenizers")) from None
    try:
        whole, cut = (Tokenizer.from_str(json.dumps(document)) for _ in range(2))
        token, number = _padding(document)
        cut.enable_truncation(length)
        cut.enable_padding(length=length, pad_id=number, pad_token=token)
        fits = {len(cut.encode(text)) for text in ("", "a " * length)} == {length}
        highest = max(whole.get_vocab().values(), default=0)
    except BaseException as error:
        # A mistake in the library's own Rust is no Exception.
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ValueError(f"`tokenizers` does not take it: {str(error)[:200]}") from None
    if not fits or highest >= 2**31:
        raise ValueError(
            f"does not make {length} ids below 2**31 of a text; its post_processor, or a number in"
            " its vocabulary, is too large"
        )
    return whole, cut


def _padding(document: Mapping[str, Any]) -> tuple[str, int]:
    """The token that texts are filled up with, and its id."""
    for token in document.get("added_tokens") or []:
        if token["content"] in ("[PAD]", "<pad>") and isinstance(token.get("id"), int):
            return token["content"], token["id"]
    return "[PAD]", 0


def _margin(document: Mapping[str, Any]) -> int:
    """Characters from a cut within which it can change a word; 0 where that cannot be told."""
    added = document.get("added_tokens") or []
    plain = not any(token.get("lstrip") or token.get("rstrip") for token in added)
    words = (document.get("pre_tokenizer") or {}).get("type")
    if document["model"]["type"] != "WordPiece" or words not in LOCAL_WORDS or not plain:
        return 0
    # Normalizing may make an added token of a text that is longer.
    return 2 * max([16, *[len(token["content"]) for token in added]])
