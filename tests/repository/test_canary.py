"""A canary: declared in model.toml, and never the only one."""

from __future__ import annotations

import pytest

from gearshift.core.catalog import Standing
from gearshift.errors import RepositoryInvalid

from .conftest import Folder


def declare(folder: Folder, times: int, share: str = "0.05") -> None:
    text = folder.toml.read_text()
    folder.toml.write_text(
        text.replace('executor = "onnx"', f'executor = "onnx"\ncanary = {share}', times)
    )


def test_a_canary_stands_apart_with_its_share(folder: Folder) -> None:
    declare(folder, 1)
    (model,) = folder.load().models.values()
    standings = sorted((v.standing, v.share) for v in model.variants)
    assert standings == [(Standing.CANARY, 0.05), (Standing.SERVING, 0.0)]
    assert model.best.standing is Standing.SERVING


@pytest.mark.parametrize("share", ["0.0", "-0.1", "0.51", "true"])
def test_a_share_is_above_0_and_at_most_half(folder: Folder, share: str) -> None:
    declare(folder, 1, share)
    with pytest.raises(RepositoryInvalid, match=r"variants\[0\]\.canary.*above 0 and at most 0\.5"):
        folder.load()


def test_somebody_has_to_serve(folder: Folder) -> None:
    declare(folder, 2)
    with pytest.raises(RepositoryInvalid, match="are all canaries; somebody must serve"):
        folder.load()
