"""Whatever stands in the files, loading gives a catalog or the list of mistakes."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gearshift.core.catalog import Catalog
from gearshift.errors import RepositoryInvalid

NUMBERS = ("", "0", "-1", "nan", "inf", "1e400", "9" * 5000, "1979-05-27", "true")
WORDS = ('""', '"x"', '"\\u0000"', "version", "name", "=", "[]", "{}", "\n", "\x00", "é")
TABLES = ("\n[classes]\n", "\n[[variants]]\n", "\n[variants]\n")
FRAGMENTS = st.sampled_from((*NUMBERS, *WORDS, *TABLES))


def reload(folder: Any) -> None:
    with contextlib.suppress(RepositoryInvalid):
        assert isinstance(folder.load(), Catalog)


fuzz = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@fuzz
@given(data=st.data())
def test_model_toml_with_pieces_exchanged(folder: Any, data: st.DataObject) -> None:
    original = folder.toml.read_text()
    pieces = original.split(" ")
    for _ in range(data.draw(st.integers(1, 4))):
        pieces[data.draw(st.integers(0, len(pieces) - 1))] = data.draw(FRAGMENTS)
    try:
        folder.toml.write_text(" ".join(pieces), encoding="utf-8")
        reload(folder)
    finally:
        folder.toml.write_text(original)


@fuzz
@given(data=st.data())
def test_any_file_with_bytes_exchanged(folder: Any, data: st.DataObject) -> None:
    names = ["model.toml", "small/card.json", "small/model.onnx", "samples.npz"]
    path = folder.model / data.draw(st.sampled_from(names))
    original = path.read_bytes()
    at = data.draw(st.integers(0, len(original)))
    length = data.draw(st.integers(0, 20))
    middle = data.draw(st.binary(max_size=20))
    try:
        path.write_bytes(original[:at] + middle + original[at + length :])
        reload(folder)
    finally:
        path.write_bytes(original)
