"""When files are read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from gearshift.access import Watched
from gearshift.errors import ConfigurationInvalid


class Reloadable:
    def __init__(self, *files: Path) -> None:
        self.files = files
        self.read = 0
        self.broken = False

    def reload(self) -> None:
        self.read += 1
        if self.broken:
            raise ConfigurationInvalid("broken")


@pytest.fixture
def pair(tmp_path):
    for name in ("crt", "key"):
        (tmp_path / name).write_text("1")
    return Reloadable(tmp_path / "crt", tmp_path / "key")


def test_what_has_changed_is_read_once_when_it_has_settled(pair) -> None:
    told: list[tuple[str, str]] = []
    watched = Watched("certificate", pair, lambda *said: told.append(said))
    watched.look()
    watched.look()
    assert pair.read == 0
    pair.files[0].write_text("22")
    watched.look()
    pair.files[1].write_text("22")  # the other half comes a moment later
    watched.look()
    assert pair.read == 0
    watched.look()
    watched.look()
    assert pair.read == 1
    assert told == [("certificate", "OK")]


def test_what_cannot_be_read_is_told_once_and_tried_again_when_it_changes(pair) -> None:
    told: list[tuple[str, str]] = []
    watched = Watched("certificate", pair, lambda *said: told.append(said))
    pair.broken = True
    pair.files[0].unlink()
    for _ in range(5):
        watched.look()
    assert told == [("certificate", "FAILED_PRECONDITION")]
    pair.broken = False
    pair.files[0].write_text("333")
    for _ in range(5):
        watched.look()
    assert [result for _, result in told] == ["FAILED_PRECONDITION", "OK"]


def test_a_link_that_points_elsewhere_is_a_change(tmp_path) -> None:
    """As Kubernetes exchanges what a secret mounts."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "crt").write_text(version)
    link = tmp_path / "now"
    link.symlink_to("1")
    reloadable = Reloadable(link / "crt")
    watched = Watched("certificate", reloadable, lambda *said: None)
    link.unlink()
    link.symlink_to("2")
    watched.look()
    watched.look()
    assert reloadable.read == 1


def test_on_demand_it_is_read_at_once(pair) -> None:
    watched = Watched("certificate", pair, lambda *said: None)
    watched.reload()
    assert pair.read == 1
