"""Where TensorRT's engines are kept, and what is not read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gearshift.core.catalog import Signature, TensorSpec
from gearshift.executors.onnx.engines import Engines, shapes

SHA = "ab" * 32


def made(root: Path, hardware: str = "gpu0 A, TensorRT 10", most: int = 1000) -> Engines:
    return Engines(root / "engines", hardware, most)


def own(options) -> Path:
    return Path(options["trt_engine_cache_path"])


def test_by_hardware_and_artifact_and_for_nobody_else(tmp_path):
    options = made(tmp_path).options(SHA)
    folder = own(options)
    assert folder.name == SHA
    assert folder.parent.parent == tmp_path / "engines"
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "True"
    assert Path(options["trt_timing_cache_path"]).parent == folder.parent
    for each in (folder, folder.parent, folder.parent.parent):
        assert each.stat().st_mode & 0o777 == 0o700
    assert own(made(tmp_path, "gpu0 B, TensorRT 10").options(SHA)).parent != folder.parent
    assert own(made(tmp_path).options("cd" * 32)) != folder


@pytest.mark.parametrize("what", ["root", "folder", "file", "link", "timings"])
def test_nothing_is_read_that_others_may_write(tmp_path, what):
    engines = made(tmp_path)
    folder = own(engines.options(SHA))
    (folder / "model.engine").write_bytes(b"code")
    if what == "root":
        (tmp_path / "engines").chmod(0o777)
    elif what == "folder":
        folder.chmod(0o770)
    elif what == "file":
        (folder / "model.engine").chmod(0o666)
    elif what == "timings":
        (folder.parent / "timings").chmod(0o702)
    else:
        (folder / "more.engine").symlink_to(tmp_path / "elsewhere")
    with capture_logs() as logs:
        assert engines.options(SHA) == {}
        assert engines.options(SHA) == {}
    (told,) = logs
    assert "TensorRT compiles at every start" in told["event"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_somebody_else_is_not_read(tmp_path):
    engines = made(tmp_path)
    file = own(engines.options(SHA)) / "model.engine"
    file.write_bytes(b"code")
    os.chown(file, 12345, -1)
    assert engines.options(SHA) == {}


def test_a_folder_that_cannot_be_made_costs_the_cache_only(tmp_path):
    (tmp_path / "engines").write_text("in the way")
    assert made(tmp_path).options(SHA) == {}


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    engines = made(tmp_path, most=250)
    folders = [own(engines.options(letter * 64)) for letter in "abc"]
    for age, folder in enumerate(folders):
        (folder / "model.engine").write_bytes(bytes(100))
        os.utime(folder, (1000 + age, 1000 + age))
    engines.options("a" * 64)  # used again
    engines.tidy()
    assert [folder.exists() for folder in folders] == [True, False, True]


def test_the_newest_stays_however_large_it_is(tmp_path):
    engines = made(tmp_path, most=10)
    folder = own(engines.options(SHA))
    (folder / "model.engine").write_bytes(bytes(100))
    os.utime(folder, (2**32, 2**32))
    engines.tidy()
    assert (folder / "model.engine").exists()


def test_it_is_told_the_shapes_of_all_batches():
    signature = Signature(
        (TensorSpec("pixels", "FP32", (3, 28)), TensorSpec("age", "FP32", ())), ()
    )
    assert shapes(signature, 8) == {
        "trt_profile_min_shapes": "pixels:1x3x28,age:1",
        "trt_profile_opt_shapes": "pixels:8x3x28,age:8",
        "trt_profile_max_shapes": "pixels:8x3x28,age:8",
    }


@pytest.mark.parametrize("name", ["a:b", "a,b", ""])
def test_names_that_it_cannot_be_told(name):
    with pytest.raises(ValueError, match="cannot be told the shape"):
        shapes(Signature((TensorSpec(name, "FP32", (3,)),), ()), 8)
