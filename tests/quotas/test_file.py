"""What people write about quotas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.quota import NAMED, Rate
from gearshift.errors import ConfigurationInvalid
from gearshift.quotas import read
from gearshift.quotas.file import unknown

WHOLE = """
identity = "x-tenant"

[default]
rows_per_second = 0.5

[clients.checkout]
rows_per_second = 5000
burst = 10000

[models.fraud.classes.realtime]
rows_per_second = 8000
"""


@pytest.fixture
def place(tmp_path):
    return tmp_path / "quotas.toml"


def test_rates_by_client_and_class(place):
    place.write_text(WHOLE)
    file = read(place)
    assert file.identity == "x-tenant"
    # A burst is a second's worth unless it is given, and a request at least.
    assert file.limits.default == Rate(0.5, 1.0)
    assert file.limits.clients == {"checkout": Rate(5000, 10000)}
    assert file.limits.classes == {("fraud", "realtime"): Rate(8000, 8000)}


def test_an_empty_file_limits_nobody(place):
    place.write_text("")
    file = read(place)
    assert (file.limits.default, file.limits.clients, file.limits.classes) == (None, {}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[default]\nrows_per_second = 0\n", "default.rows_per_second: .*greater than 0.*got 0"),
        ("[default]\nrows_per_second = inf\n", "default.rows_per_second: .*finite"),
        ("[default]\nburst = 5\n", "default.rows_per_second: Field required"),
        ("[default]\nrows_per_second = 1\nrate = 2\n", "default.rate: unknown key"),
        ('[clients.a]\nrows_per_second = "1"\n', "clients.a.rows_per_second: .*valid number"),
        ("[models.fraud]\nrows_per_second = 1\n", "models.fraud.classes: Field required"),
        ('identity = "X Tenant"\n', "identity: .*pattern"),
        ("[default\n", "quotas file .*line 1"),
    ],
)
def test_a_mistake_is_told_with_its_key(place, text, message):
    place.write_text(text)
    with pytest.raises(ConfigurationInvalid, match=message):
        read(place)


def test_every_mistake_is_told(place):
    place.write_text("[default]\nrows_per_second = 0\nburst = -1\n")
    with pytest.raises(ConfigurationInvalid) as caught:
        read(place)
    assert str(caught.value).count("quotas file") == 2


def test_what_is_no_file_or_too_large_or_no_text(place, tmp_path):
    with pytest.raises(ConfigurationInvalid, match="cannot be read: no such file"):
        read(place)
    with pytest.raises(ConfigurationInvalid, match="cannot be read: is a directory"):
        read(tmp_path)
    place.write_bytes(b"# \xff\n")
    with pytest.raises(ConfigurationInvalid, match="utf-8"):
        read(place)
    place.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigurationInvalid, match="larger than"):
        read(place)
    tables = "".join(f"[clients.c{n}]\nrows_per_second = 1\n" for n in range(NAMED + 1))
    place.write_text(tables)
    with pytest.raises(ConfigurationInvalid, match=f"there may be {NAMED} together"):
        read(place)


@given(text=st.text(max_size=200) | st.binary(max_size=200))
def test_any_content_is_read_or_refused(tmp_path_factory, text):
    place = tmp_path_factory.getbasetemp() / "any.toml"
    place.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "replace"))
    try:
        read(place)
    except ConfigurationInvalid as error:
        assert "quotas file" in str(error)


def test_what_is_limited_and_not_there(place):
    place.write_text(WHOLE + "[models.typo.classes.realtime]\nrows_per_second = 1\n")
    file = read(place)
    assert unknown(file, {"fraud": frozenset({"realtime"}), "typo": frozenset({"realtime"})}) == []
    assert unknown(file, {"fraud": frozenset({"batch", "other"})}) == [
        "models.fraud.classes.realtime: the model has no such class; it has batch, other",
        "models.typo: no such model is served",
    ]
