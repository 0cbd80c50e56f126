"""gearshift.v1 as buf judges it, and that it would find what breaks clients."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tools import tool

PROTOS = Path(__file__).parents[2] / "protos"
PUBLISHED = PROTOS / "published" / "gearshift.binpb"


def buf(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [tool("buf"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def changed(tmp_path):
    """A copy of the protos in which something is replaced."""

    def change(old: str, new: str) -> Path:
        shutil.copytree(PROTOS, tmp_path, dirs_exist_ok=True)
        proto = tmp_path / "gearshift" / "v1" / "gearshift.proto"
        text = proto.read_text()
        assert old in text
        proto.write_text(text.replace(old, new, 1))
        return tmp_path

    return change


def test_it_is_well_formed_and_breaks_nothing():
    assert buf(PROTOS, "lint") == (0, "")
    assert buf(PROTOS, "breaking", "--against", str(PUBLISHED)) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("  string model = 1;\n", "", 'field "1" with name "model"'),
        ("double floor = 4", "double floor = 40", 'field "4" with name "floor"'),
        ("string reason = 6", "bytes reason = 6", "changed type"),
        ("rpc Explain(", "rpc Explains(", "Explain"),
        ("package gearshift.v1", "package gearshift.v2", "changed from"),
    ],
)
def test_what_would_break_clients_is_found(changed, old, new, text):
    code, told = buf(changed(old, new), "breaking", "--against", str(PUBLISHED))
    assert code != 0
    assert text in told


def test_what_is_only_more_is_no_break(changed):
    more = changed("  string model = 1;\n", "  string model = 1;\n  string more = 99;\n")
    assert buf(more, "breaking", "--against", str(PUBLISHED)) == (0, "")
    assert buf(more, "lint") == (0, "")


def test_what_is_not_well_formed_is_found(changed):
    code, told = buf(changed("string model = 1", "string Model = 1"), "lint")
    assert code != 0
    assert "lower_snake_case" in told
