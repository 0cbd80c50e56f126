"""Whether answers are finite: declared in model.toml, and true unless it says otherwise."""

from __future__ import annotations

import pytest

from gearshift.errors import RepositoryInvalid

from .conftest import Folder


def declare(folder: Folder, value: str) -> None:
    folder.toml.write_text(f"finite = {value}\n" + folder.toml.read_text())


def test_answers_are_finite_unless_they_need_not_be(folder: Folder) -> None:
    (model,) = folder.load().models.values()
    assert model.finite
    declare(folder, "false")
    (model,) = folder.load().models.values()
    assert not model.finite


def test_anything_else_is_told(folder: Folder) -> None:
    declare(folder, '"no"')
    with pytest.raises(RepositoryInvalid, match=r"finite.*true, or false where NaN and infinity"):
        folder.load()
