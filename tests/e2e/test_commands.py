"""The commands as a person types them."""

from __future__ import annotations

import shutil
import socket

import pytest

from onnx_models import TWO_VARIANTS, row_sum
from serving import ROOT, gearshift, start, stop


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repo"
    for variant in ("large", "small"):
        row_sum(root / "sums" / variant / "model.onnx")
    (root / "sums" / "model.toml").write_text(TWO_VARIANTS)
    return root


@pytest.mark.parametrize("command", ["serve", "check", "profile", "models", "demo", "compress"])
def test_help_teaches(command):
    told = gearshift(command, "--help")
    assert told.returncode == 0
    assert "--repository" in told.stdout
    assert len(told.stdout.split()) > 40


def test_version():
    from gearshift import __version__

    assert gearshift("--version").stdout.strip() == __version__


def test_check_passes_the_shipped_models():
    checked = gearshift("check", "--repository", str(ROOT / "model_repo"))
    assert (checked.returncode, checked.stderr) == (0, "")
    models = len(list((ROOT / "model_repo").glob("*/model.toml")))
    assert f"{models} model(s)" in checked.stdout


def test_check_tells_every_mistake_with_file_and_key(repository):
    (repository / "sums" / "large" / "model.onnx").write_bytes(b"broken")
    other = repository / "other"
    shutil.copytree(repository / "sums", other)
    (other / "large" / "model.onnx").unlink()
    text = TWO_VARIANTS.replace("version = 2", "version = 1").replace("metric", "metrik")
    (other / "model.toml").write_text(text)
    (repository / "broken").mkdir()
    (repository / "broken" / "model.toml").write_text("metric = \n")
    checked = gearshift("check", "--repository", str(repository))
    assert checked.returncode == 1
    for expected in (
        "sums/large/model.onnx",
        "other/model.toml: metrik",
        "broken/model.toml",
    ):
        assert expected in checked.stderr, checked.stderr
    assert "Traceback" not in checked.stderr


def test_models_and_profile_print_their_tables(repository, tmp_path):
    options = ("--repository", str(repository), "--state-dir", str(tmp_path / "state"))
    wide = {"env": {"COLUMNS": "200", "PATH": "/usr/bin:/bin"}}
    listed = gearshift("models", *options, **wide)
    assert listed.returncode == 0, listed.stderr
    for expected in ("sums", "large", "0.9000 (declared)", "top1"):
        assert expected in listed.stdout
    profiled = gearshift("profile", *options, **wide)
    assert profiled.returncode == 0, profiled.stderr
    assert "p50 / p99" in profiled.stdout


def test_a_taken_port_is_one_clear_line(repository, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for option in ("--grpc-port", "--http-port"):
            other = "--http-port" if option == "--grpc-port" else "--grpc-port"
            failed = gearshift(
                *("serve", "--repository", str(repository), option, port, other, "0"),
                *("--state-dir", str(tmp_path / "state")),
            )
            assert failed.returncode == 1
            assert len(failed.stderr.strip().splitlines()) == 1, failed.stderr
            assert port in failed.stderr


def test_a_broken_repository_does_not_serve(repository):
    (repository / "sums" / "small" / "model.onnx").unlink()
    failed = gearshift("serve", "--repository", str(repository), "--grpc-port", "0")
    assert failed.returncode == 1
    assert "sums/small/model.onnx" in failed.stderr


def test_profiles_are_kept_and_reused(repository, tmp_path):
    options = ("--repository", str(repository), "--state-dir", str(tmp_path / "state"))
    server = start(*options)
    assert server.page("/healthz").strip()
    assert server.page("/readyz").strip()
    assert stop(server) == 0
    kept = {path: path.read_bytes() for path in (tmp_path / "state").rglob("*.json")}
    assert len(kept) == 2
    server = start(*options)
    assert stop(server) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "state").rglob("*.json")} == kept
