"""What differs on disk, and loading only that."""

from __future__ import annotations

import os

import onnx
import pytest

from builders import ONE_VECTOR
from gearshift.errors import RepositoryInvalid
from gearshift.repository import contents, load, names, reread, stamp, stamps
from onnx_models import row_sum

TOML = """
metric = "top1"
max_batch_size = 4
default_class = "default"
[classes.default]
[[variants]]
name = "only"
version = 1
executor = "onnx"
accuracy = {accuracy}
"""


class Disk:
    def __init__(self, root):
        self.root = root
        self.inspected: list[str] = []
        self.while_inspecting = lambda: None

    def put(self, name, accuracy=0.9, artifact=b"artifact"):
        folder = self.root / name / "only"
        folder.mkdir(parents=True, exist_ok=True)
        made = onnx.load(row_sum(folder / "model.onnx"))
        made.doc_string = artifact.decode()
        onnx.save(made, folder / "model.onnx")
        (self.root / name / "model.toml").write_text(TOML.format(accuracy=accuracy))

    def inspect(self, artifact):
        self.inspected.append(artifact)
        self.while_inspecting()
        return ONE_VECTOR

    def reread(self, known, **what):
        self.inspected.clear()
        return reread(self.root, {"onnx": self.inspect}, known, 7, **what)


@pytest.fixture
def disk(tmp_path):
    made = Disk(tmp_path / "repo")
    for name in "abc":
        made.put(name)
    return made


def test_what_is_the_same_is_not_even_inspected(disk):
    known = contents(disk.root)
    os.utime(disk.root / "a" / "model.toml")  # touched, and the same
    changes = disk.reread(known)
    assert disk.inspected == []
    assert (changes.models, changes.gone, changes.unchanged) == ({}, set(), {"a", "b", "c"})


def test_a_file_that_is_too_large_to_be_loaded_is_not_read_to_see_whether_it_differs(disk):
    artifact = disk.root / "a" / "only" / "model.onnx"
    before = contents(disk.root, largest=200)
    artifact.write_bytes(bytes(1_000))
    os.utime(artifact, (5, 5))
    large = contents(disk.root, largest=200)
    assert {name for name in before if before[name] != large[name]} == {"a"}
    artifact.write_bytes(b"x" * 1_000)
    os.utime(artifact, (5, 5))
    assert contents(disk.root, largest=200) == large
    assert contents(disk.root)["a"] != large["a"]
    os.utime(artifact, (6, 6))
    assert contents(disk.root, largest=200)["a"] != large["a"]


def test_what_differs_is_loaded_in_the_new_generation(disk):
    known = contents(disk.root)
    disk.put("a", accuracy=0.8)
    disk.put("b", artifact=b"another1")  # as long as before
    disk.put("d")
    for path in (disk.root / "c").rglob("*.*"):
        path.unlink()
    (disk.root / "c" / "only").rmdir()
    (disk.root / "c").rmdir()
    changes = disk.reread(known)
    assert {name: model.generation for name, model in changes.models.items()} == dict.fromkeys(
        "abd", 7
    )
    assert changes.models["a"].variants[0].accuracy == 0.8
    assert changes.gone == {"c"}
    again = disk.reread({**known, **changes.contents})
    assert (again.models, again.unchanged) == ({}, {"a", "b", "d"})


def test_only_what_is_asked_for_is_looked_at(disk):
    known = contents(disk.root)
    for name in "abc":
        disk.put(name, accuracy=0.5)
    (disk.root / "b" / "model.toml").write_text("nonsense")
    assert list(disk.reread(known, look=("a", "gone")).models) == ["a"]
    assert disk.reread(known, look=("a", "gone")).gone == {"gone"}
    assert list(disk.reread(known, out=("b", "c")).models) == ["a"]
    with pytest.raises(RepositoryInvalid, match=r"^b/model\.toml: .*TOML"):
        disk.reread(known)


def test_a_file_that_changes_while_it_is_read_is_not_loaded(disk):
    known = contents(disk.root)
    disk.put("a", accuracy=0.8)
    artifact = disk.root / "a" / "only" / "model.onnx"
    disk.while_inspecting = lambda: artifact.write_bytes(b"only the beginning has come")
    with pytest.raises(RepositoryInvalid, match="^a: changed while it was read"):
        disk.reread(known)
    disk.while_inspecting = lambda: None
    disk.put("a", accuracy=0.8)  # and now it is complete
    changes = disk.reread(known)
    changes.check(disk.root)
    artifact.write_bytes(b"and again")  # between reading and loading
    with pytest.raises(RepositoryInvalid, match="^a: changed while it was read"):
        changes.check(disk.root)


def test_a_volume_that_is_not_mounted_unloads_nothing(disk, tmp_path):
    known = contents(disk.root)
    disk.root.rename(tmp_path / "away")
    with pytest.raises(RepositoryInvalid, match="does not exist"):
        disk.reread(known)
    disk.root.mkdir()
    with pytest.raises(RepositoryInvalid, match="holds no models"):
        disk.reread(known, look=tuple("abc"))
    assert disk.reread(known, look=(), out=("a",)).gone == set()  # unloading needs no disk


def test_a_link_that_is_swapped_is_another_stamp(disk, tmp_path):
    """As ConfigMaps are updated: the same names, sizes and times behind another link."""
    root = tmp_path / "mounted"
    for version in ("1", "2"):
        folder = root / f"..{version}" / "m"
        folder.mkdir(parents=True)
        (folder / "model.toml").write_text(version)
        os.utime(folder / "model.toml", (1, 1))
    (root / "..data").symlink_to("..1")
    (root / "m").symlink_to("..data/m")
    assert names(root) == ["m"]
    before = stamps(root)
    assert [entry[2:] for entry in before["m"]] == [(1, 1_000_000_000)]
    (root / "new").symlink_to("..2")
    (root / "new").rename(root / "..data")
    assert stamps(root) != before
    assert stamp(root / "nowhere") == ()


def test_hidden_files_and_endless_links_change_nothing(disk):
    before, held = stamps(disk.root), contents(disk.root)
    (disk.root / ".copying").mkdir()
    (disk.root / "a" / ".part").write_text("x")
    (disk.root / "a" / "loop").symlink_to(disk.root / "a")
    assert stamps(disk.root) == before
    assert contents(disk.root) == held


def test_files_outside_the_repository_are_not_read(disk, tmp_path):
    outside = tmp_path / "secret"
    outside.write_text("one")
    (disk.root / "a" / "notes").symlink_to(outside)
    held = contents(disk.root)
    outside.write_text("other")
    assert contents(disk.root) == held


def test_a_part_of_the_repository_can_be_loaded(disk):
    catalog = load(disk.root, {"onnx": disk.inspect}, 3, only=["b"])
    assert {name: model.generation for name, model in catalog.models.items()} == {"b": 3}
