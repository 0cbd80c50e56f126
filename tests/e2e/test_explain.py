"""`gearshift explain` as a person types it, against a real server."""

from __future__ import annotations

import json
import os
import socket

import pytest

from onnx_models import TWO_VARIANTS, row_sum
from serving import gearshift, start, stop

WIDE = {"env": {**os.environ, "COLUMNS": "200"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("explained")
    for variant in ("large", "small"):
        row_sum(root / "repo" / "sums" / variant / "model.onnx")
    (root / "repo" / "sums" / "model.toml").write_text(TWO_VARIANTS)
    started = start("--repository", str(root / "repo"), "--state-dir", str(root / "state"))
    yield started
    assert stop(started) == 0


def explain(server, *options):
    return gearshift("explain", "sums", "--address", server.grpc, *options, **WIDE)


def test_the_chosen_one_is_marked_and_everything_has_a_reason(server):
    told = explain(server)
    assert (told.returncode, told.stderr) == (0, "")
    (marked,) = [line for line in told.stdout.splitlines() if "→" in line]
    assert "large" in marked
    assert "0.9000 (declared)" in marked
    assert "large would answer (reason most_accurate): the most accurate of all." in told.stdout
    assert "better chosen" in told.stdout


def test_a_refusal_is_an_answer_too(server):
    told = explain(server, "--min-accuracy", "0.95")
    assert (told.returncode, told.stderr) == (0, "")
    assert "Would be refused with FAILED_PRECONDITION: no variant of model 'sums'" in told.stdout
    assert "→" not in told.stdout


def test_json_for_programs(server):
    told = explain(server, "--json", "--variant", "small", "--budget-ms", "500", "--rows", "2")
    answer = json.loads(told.stdout)
    assert (answer["chosen"], answer["reason"], answer["budgetMs"]) == ("small", "pinned", 500.0)
    assert [c["verdict"] for c in answer["candidates"]] == [
        "VERDICT_NOT_PINNED",
        "VERDICT_CHOSEN",
    ]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--service-class", "none"), "has no class 'none'"),
        (("--variant", "none"), "has no variant 'none'"),
        (("--budget-ms", "-1"), "must be above 0"),
        (("--rows", "5"), "takes 1 to 4"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_sentence(server, options, part):
    told = explain(server, *options)
    assert (told.returncode, told.stdout) == (1, "")
    assert part in told.stderr
    assert len(told.stderr.splitlines()) == 1


def test_nobody_there_is_one_clear_sentence():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        told = gearshift("explain", "sums", "--address", address, **WIDE)
    assert (told.returncode, told.stdout) == (1, "")
    assert f"no server answers at {address}" in told.stderr
    assert len(told.stderr.splitlines()) == 1
