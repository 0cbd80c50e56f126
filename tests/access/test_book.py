"""The access file: what may stand in it, and what is said of what may not."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.access import digest_of, new_token
from gearshift.access.book import read_book
from gearshift.errors import ConfigurationInvalid
from serving import ROOT

DIGEST = digest_of("x")
CLIENT = f'[[clients]]\nname = "a"\ntokens_sha256 = ["{DIGEST}"]\nmay = ["infer"]\nmodels = ["*"]\n'
JWT = '[jwt]\nissuer = "i"\naudience = "a"\nalgorithms = ["RS256"]\njwks_file = "k"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "clients: Field required"),
        ("clients = []", "clients: List should have at least 1"),
        ("clients = [", "no TOML"),
        ("\x00", "no TOML"),
        ("a = " + "[" * 100_000, "nested too deeply"),
        (CLIENT.replace("infer", "everything"), "clients.0.may.0: .*'infer'"),
        (CLIENT.replace('"infer"', '"open"'), "clients.0.may.0"),
        (CLIENT.replace('name = "a"', 'name = "anonymous"'), "those who have proved nothing"),
        (CLIENT.replace('name = "a"', 'name = "a b"'), "a name has 1 to 64"),
        (CLIENT.replace(DIGEST, "my secret token"), "64 hexadecimal digits; `gearshift token`"),
        (CLIENT.replace("tokens_sha256", "tokens"), "tokens: Extra inputs"),
        (CLIENT.replace(f'["{DIGEST}"]', "[]"), "nothing to prove who it is with"),
        (CLIENT + CLIENT, "have one of them in common"),
        (CLIENT + CLIENT.replace(DIGEST, digest_of("y")), "several clients are named a"),
        (CLIENT.replace("tokens_sha256", "subjects"), r"need a \[jwt\] table"),
        (CLIENT + JWT.replace("RS256", "HS256"), "jwt.algorithms.0"),
        (CLIENT + JWT.replace("RS256", "none"), "jwt.algorithms.0"),
        (CLIENT + JWT.replace('["RS256"]', "[]"), "jwt.algorithms"),
        (CLIENT + JWT + 'jwks_url = "https://x"', "either jwks_file or jwks_url"),
        (CLIENT + JWT.replace('jwks_file = "k"', ""), "either jwks_file or jwks_url"),
        (CLIENT + JWT.replace('jwks_file = "k"', 'jwks_url = "http://x"'), "https only"),
        (CLIENT + JWT + "leeway_seconds = 1e9", "leeway_seconds"),
    ],
)
def test_mistakes_are_told_without_what_stands_there(tmp_path, text, told):
    path = tmp_path / "access.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationInvalid, match=told) as caught:
        read_book(path)
    assert str(path) in str(caught.value)
    assert "my secret token" not in str(caught.value)
    assert DIGEST not in str(caught.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(ConfigurationInvalid, match="No such file"):
        read_book(tmp_path / "access.toml")
    (tmp_path / "access.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationInvalid, match="not in UTF-8"):
        read_book(tmp_path / "access.toml")
    (tmp_path / "access.toml").write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    with pytest.raises(ConfigurationInvalid, match="above"):
        read_book(tmp_path / "access.toml")


def test_files_are_named_from_where_that_is_written(tmp_path):
    path = tmp_path / "access.toml"
    path.write_text(CLIENT + JWT)
    jwt = read_book(path).jwt
    assert jwt is not None
    assert jwt.jwks_file == tmp_path / "k"


@settings(max_examples=30)
@given(st.binary(max_size=200))
def test_whatever_stands_there_is_an_error_or_a_book(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text)
    with suppress(ConfigurationInvalid):
        read_book(path)


def test_tokens_are_random_and_known_by_their_hash():
    one, other = new_token(), new_token()
    assert one != other
    assert len(one) >= 43 + len("gs_")
    assert len(digest_of(one)) == 64
    assert one not in digest_of(one)


def test_what_the_guide_shows_is_what_is_read(tmp_path):
    (shown,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "security.md").read_text(), re.S)
    (tmp_path / "access.toml").write_text(shown)
    book = read_book(tmp_path / "access.toml")
    assert set(book.certificates) == {"spiffe://example/prometheus"}
    assert set(book.subjects) == {"nightly@jobs.example"}
