"""Mails become text without markup, and near-duplicates find each other."""

from __future__ import annotations

import numpy as np

from gearshift.compress.families import text_mails
from gearshift.compress.families.text_mails import Mail, groups, parse, visible_text

STORY = (
    "the quick brown fox jumps over the lazy dog while the old farmer counts his many sheep and "
    "wonders whether any of them has been taken by the wolf that lives behind the second hill"
)


def mail(subject: str, body: str, name: str = "x") -> Mail:
    return Mail(name, subject, body, spam=False)


def test_a_plain_mail_is_its_subject_and_body() -> None:
    raw = b"From: a@b.c\nReceived: by here\nSubject: =?iso-8859-1?Q?Caf=E9?= now\n\nHi\n  you =)\n"
    parsed = parse("ham/1", raw, spam=False)
    assert parsed.text == "Café now\nHi you =)"


def test_lines_of_signs_leave_room_for_words() -> None:
    raw = b"Subject: s\n\n=======\n# # # # #\nWell... a -- b !!! 10000000\n"
    assert parse("ham/1", raw, spam=False).body == "=== ### Well... a -- b !!! 10000000"


def test_html_is_read_as_it_is_seen() -> None:
    markup = "<html><style>p {}</style><p>Via<!-- x -->gra<br>&amp; more</p><script>a<b</script>"
    assert visible_text(markup).split() == ["Viagra", "&", "more"]
    raw = b"Subject: s\nContent-Type: text/html; charset=nonsense\n\n" + markup.encode()
    assert parse("spam/1", raw, spam=True).body == "Viagra & more"


def test_of_alternatives_only_one_is_read_and_attachments_never() -> None:
    raw = (
        b"Subject: s\nContent-Type: multipart/mixed; boundary=X\n\n"
        b"--X\nContent-Type: multipart/alternative; boundary=Y\n\n"
        b"--Y\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\nb25l\n"
        b"--Y\nContent-Type: text/html\n\n<b>one</b>\n--Y--\n"
        b"--X\nContent-Type: application/pdf\n\nrubbish\n"
        b"--X\nContent-Type: text/plain\n\ntwo\n--X--\n"
    )
    assert parse("ham/1", raw, spam=False).body == "one two"


def test_broken_mails_are_still_read() -> None:
    raw = b"Subject: =?utf-8?B?broken\nContent-Type: text/plain; charset=utf-8\n\n\xff\xe9t\xe9"
    assert parse("ham/1", raw, spam=False).body == "ÿété"


def test_copies_that_differ_in_tricks_only_are_one() -> None:
    first, copy = mail("Win 100$", "Click  NOW!"), mail("win 250", "click now")
    assert text_mails.without_duplicates([first, copy, mail("win", "elsewhere")]) == [
        first,
        mail("win", "elsewhere"),
    ]


def test_threads_campaigns_and_chains_are_one_group() -> None:
    words = STORY.split()
    mails = [
        mail("Selling wedded bliss", "one thing"),
        mail("a", STORY),
        mail("Re: [List] Selling wedded bliss", "another matter altogether, in other words"),
        mail("b", " ".join([*words[:30], "bear", *words[31:]])),  # near the second by content
        mail("c", "nothing of the kind was ever written in any of the mails above this one"),
        mail("hi", "short subjects name no thread: these two have nothing in common at all"),
        mail("hi", "the other mail with the very same greeting, on some different matter"),
    ]
    assert groups(mails).tolist() == [0, 1, 0, 1, 4, 5, 6]


def test_signatures_estimate_the_share_of_common_shingles() -> None:
    words = [f"w{i}" for i in range(200)]
    whole = text_mails._signature(" ".join(words))
    half = text_mails._signature(" ".join(words[:104]))  # 100 of 196 shingles
    other = text_mails._signature(" ".join(reversed(words)))
    assert abs(float(np.mean(whole == half)) - 100 / 196) < 0.15
    assert float(np.mean(whole == other)) < 0.05
