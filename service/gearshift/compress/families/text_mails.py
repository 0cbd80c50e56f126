"""From raw mails to plain text, and which mails are near-duplicates of one another.

Only the standard library and NumPy, and nothing whose behaviour changes between versions of
Python (`html.parser` does): the same mails must become the same text everywhere.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message

import numpy as np
import numpy.typing as npt

_INVISIBLE = re.compile(r"<!--.*?-->|<(script|style|title)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<![^<>]*>")
_HTML = re.compile(r"<(html|body|table|font|br|p|a\s+href)\b", re.IGNORECASE)
_RULE = re.compile(r"([^\w\s])(?:\s*\1){3,}")
_SPACE = re.compile(r"\s+")
_NOT_A_LETTER = re.compile(r"[^a-z]+")
_REPLY = re.compile(r"^\s*(re|fwd?|aw|sv)\s*(\[\d+\])?\s*:|^\s*\[[^\]]{1,30}\]", re.IGNORECASE)

SHINGLE = 5
"""Words in a row that count as one piece of content."""
BANDS, ROWS_A_BAND = 24, 4
"""MinHash bands (Broder, 1997): two mails are compared when one band agrees, which finds pairs
of Jaccard similarity s with probability 1 - (1 - s^4)^24: 0.79 at 0.5, 0.999 at 0.7."""
SIMILAR = 0.5
"""The estimated Jaccard similarity of two mails' shingles from which they are one group."""
LONG_SUBJECT = 12
"""A subject of so many letters names a thread or a campaign; shorter ones are chance."""
_PRIME = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail as the models see it: no headers but the subject, no markup."""

    name: str
    subject: str
    body: str
    spam: bool

    @property
    def text(self) -> str:
        """The subject as the first line, then the body."""
        return f"{self.subject}\n{self.body}"


def parse(name: str, raw: bytes, spam: bool) -> Mail:
    """The subject and the visible text of a raw mail (RFC 822, MIME).

    A line of one sign (=====, # # # #) is shortened to three: each sign is a token of its own,
    and one such line would leave no room for words.
    """
    message = message_from_bytes(raw)
    pieces = " ".join(_text_of(part) for part in _readable(message))
    body = _SPACE.sub(" ", _RULE.sub(r"\1\1\1", pieces)).strip()
    return Mail(name, _subject(message), body, spam)


def visible_text(markup: str) -> str:
    """HTML without its tags, comments, scripts and styles; entities become characters.

    A comment goes without a space in its place: spam splits its words with empty comments.
    """
    return html.unescape(_TAG.sub(" ", _INVISIBLE.sub("", markup)))


def _readable(message: Message) -> Iterable[Message]:
    """The text parts of a mail; of alternatives with the same content only the first."""
    if message.is_multipart():
        parts = [part for part in message.get_payload() if isinstance(part, Message)]
        if message.get_content_type() == "multipart/alternative":
            texts = [part for part in parts if part.get_content_maintype() == "text"]
            parts = texts[:1] or parts
        for part in parts:
            yield from _readable(part)
    elif message.get_content_maintype() == "text":
        yield message


def _text_of(part: Message) -> str:
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else b""
    text = _decoded(content, part.get_content_charset())
    if part.get_content_type() == "text/html" or _HTML.search(text[:2_000]):
        text = visible_text(text)
    return text


def _decoded(content: bytes, charset: str | None) -> str:
    try:
        return content.decode(charset or "utf-8")
    except (LookupError, UnicodeError, ValueError):
        # A wrong or unknown declaration: Latin-1 gives every byte some character.
        return content.decode("latin-1")


def _subject(message: Message) -> str:
    raw = str(message.get("subject", ""))
    try:
        pieces = decode_header(raw)
    except (HeaderParseError, ValueError):
        pieces = [(raw, None)]
    words = [
        _decoded(piece, charset) if isinstance(piece, bytes) else piece for piece, charset in pieces
    ]
    return _SPACE.sub(" ", "".join(words)).strip()


def normalized(text: str) -> str:
    """Letters a to z in lower case with single spaces: what is left when tricks are removed."""
    return _NOT_A_LETTER.sub(" ", text.lower()).strip()


def without_duplicates(mails: Sequence[Mail]) -> list[Mail]:
    """The first of all mails with the same normalized subject and body."""
    seen: dict[str, Mail] = {}
    for mail in mails:
        seen.setdefault(normalized(mail.text), mail)
    return list(seen.values())


def groups(mails: Sequence[Mail]) -> npt.NDArray[np.int64]:
    """For each mail the number of its group: the lowest index of all mails in it, [n].

    Mails are in one group when they are near-duplicates by content, or have the same subject
    (threads quote each other, campaigns keep their subject), or are linked by a chain of such.
    """
    parent = list(range(len(mails)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for first, second in (*_same_subject(mails), *_similar(mails)):
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return np.array([root(index) for index in range(len(mails))], np.int64)


def _same_subject(mails: Sequence[Mail]) -> list[tuple[int, int]]:
    members: dict[str, int] = {}
    pairs = []
    for index, mail in enumerate(mails):
        subject, before = mail.subject, None
        while subject != before:
            before, subject = subject, _REPLY.sub("", subject)
        key = normalized(subject)
        if len(key) >= LONG_SUBJECT:
            pairs.append((members.setdefault(key, index), index))
    return pairs


def _similar(mails: Sequence[Mail]) -> list[tuple[int, int]]:
    """Pairs whose shingles agree, found by MinHash so that not all pairs are compared."""
    signatures = np.stack([_signature(normalized(mail.body)) for mail in mails])
    pairs = set()
    for band in range(BANDS):
        columns = signatures[:, band * ROWS_A_BAND : (band + 1) * ROWS_A_BAND]
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for index, row in enumerate(columns):
            buckets[row.tobytes()].append(index)
        for bucket in buckets.values():
            first = bucket[0]
            for other in bucket[1:]:
                # The estimate of the similarity is the share of agreeing minima.
                if (signatures[first] == signatures[other]).mean() >= SIMILAR:
                    pairs.add((first, other))
    return sorted(pairs)


def _signature(text: str) -> npt.NDArray[np.int64]:
    """The minima of BANDS x ROWS_A_BAND random hash functions over the text's shingles."""
    words = text.split()
    shingles = {
        " ".join(words[start : start + SHINGLE])
        for start in range(max(1, len(words) - SHINGLE + 1))
    }
    values = np.array(
        [
            int.from_bytes(hashlib.blake2b(s.encode(), digest_size=4).digest(), "big") % _PRIME
            for s in sorted(shingles)
        ],
        np.int64,
    )
    factor, offset = _hash_functions()
    # Below 2^31 times below 2^31 stays below 2^62: no overflow.
    minima: npt.NDArray[np.int64] = ((values[:, None] * factor + offset) % _PRIME).min(axis=0)
    return minima


def _hash_functions() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    generator = np.random.default_rng(0)
    size = BANDS * ROWS_A_BAND
    return generator.integers(1, _PRIME, size), generator.integers(0, _PRIME, size)
