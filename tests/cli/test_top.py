"""`gearshift top` against a server that is none, at several widths."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from rich.console import Console
from typer.testing import CliRunner

from fake_gearshift import FakeGearshift, fake_gearshift
from gearshift.cli.commands import app
from gearshift.cli.top import BAR, bar, picture
from gearshift.v1 import gearshift_pb2 as pb


def look(**changes: Any) -> Any:
    made = pb.WatchFrontierResponse(
        time=1_000_000.0,
        window_seconds=60.0,
        models=[
            pb.ModelFrontier(
                name="fraud",
                metric="average_precision",
                variants=[
                    pb.VariantPoint(
                        name="committee",
                        version=6,
                        accuracy=0.7993,
                        p50_ms=0.09,
                        p99_ms=12.5,
                        rate=1234.5,
                        share=0.75,
                    ),
                    pb.VariantPoint(name="both", accuracy=0.79, p50_ms=1.5, p99_ms=3, share=0.25),
                ],
                classes=[
                    pb.ClassState(
                        name="realtime",
                        attainment=0.987,
                        goodput=42,
                        served_accuracy=0.7991,
                        accuracy_deficit=0.0002,
                        waiting=3,
                    ),
                    pb.ClassState(name="batch"),
                ],
            )
        ],
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def fake() -> Iterator[FakeGearshift]:
    with fake_gearshift() as made:
        made.looks = [look()]
        yield made


def drawn(told: Any, width: int) -> str:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(picture(told, width))
    console.file.close()
    return console.export_text()


def test_a_wide_terminal_shows_everything() -> None:
    text = drawn(look(), 120)
    for part in ("fraud (average_precision)", "committee", "0.7993", "90 µs", "12.5 ms", "1,234"):
        assert part in text
    for part in ("75.0%", "█" * 9, "both (cascade)", "98.7%", "42", "0.7991", "0.0002", "3"):
        assert part in text
    assert "live" not in text


def test_live_accuracy_is_shown_once_there_is_some() -> None:
    told = look()
    point = told.models[0].variants[0]
    point.live_accuracy, point.live_low, point.live_high = 0.78, 0.75, 0.81
    assert "0.7800 (0.7500 to 0.8100)" in drawn(told, 120)


@pytest.mark.parametrize("width", [40, 60, 91])
def test_a_narrow_terminal_shows_what_matters_in_its_width(width: int) -> None:
    text = drawn(look(), width)
    assert max(map(len, text.splitlines())) <= width
    for part in ("committee", "0.7993", "75.0%", "realtime", "98.7%", "0.7991"):
        assert part in text


def test_bars_are_as_long_as_their_share() -> None:
    assert bar(0.0) == ""
    assert bar(1e-6) == "▏"
    assert bar(1.0) == "█" * BAR
    assert bar(0.5) == "█" * (BAR // 2)
    assert all(len(bar(share / 100)) <= BAR for share in range(101))


def test_all_and_none_are_said_only_where_they_are_true() -> None:
    told = look()
    first, second = told.models[0].variants
    first.share, second.share = 0.9999, 0.0001
    told.models[0].classes[0].attainment = 1.0
    told.models[0].classes[1].attainment = 0.0
    words = drawn(told, 120).split()
    assert {">99.9%", "<0.1%", "100%", "0%"} <= set(words)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["top", *arguments])


def test_once_prints_one_look(fake: FakeGearshift) -> None:
    done = run("--address", f"127.0.0.1:{fake.port}", "--once", "--model", "fraud")
    assert done.exit_code == 0, done.output
    assert "committee" in done.output
    (asked,) = fake.asked
    assert (list(asked.models), asked.interval_ms) == (["fraud"], 1000)


def test_a_server_that_is_not_there_is_one_clear_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gearshift.cli.top.CONNECTED_WITHIN", 0.2)
    with fake_gearshift() as gone:
        address = f"127.0.0.1:{gone.port}"
    done = run("--address", address, "--once")
    assert done.exit_code == 1
    assert f"no server answers at {address}; is `gearshift serve` running there?" in done.output
    assert "Traceback" not in done.output


def test_what_the_server_refuses_is_said(fake: FakeGearshift) -> None:
    fake.looks = []
    fake.error = grpc.StatusCode.NOT_FOUND, "no model 'x' is served here; there are: fraud"
    done = run("--address", f"127.0.0.1:{fake.port}", "--once")
    assert done.exit_code == 1
    assert "NOT_FOUND: no model 'x' is served here; there are: fraud" in done.output


def test_an_interval_that_cannot_be_is_refused() -> None:
    assert run("--interval", "0.1").exit_code == 2


def test_in_a_terminal_it_goes_on_until_ctrl_c(fake: FakeGearshift) -> None:
    fake.looks = Forever()
    terminal, other = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gearshift", "top", "--address", f"127.0.0.1:{fake.port}"],
        stdin=other,
        stdout=other,
        stderr=other,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
    )
    os.close(other)
    try:
        seen = until(terminal, b"23:47:13")
        assert b"committee" in seen
        process.send_signal(signal.SIGINT)
        rest = until(terminal, None)
        assert process.wait(20) == 0
        assert b"Traceback" not in rest
        # The screen and the cursor are given back.
        assert b"\x1b[?1049l" in rest
        assert b"\x1b[?25h" in rest
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


class Forever:
    """A look every hundredth of a second, each a minute later than the one before."""

    def __iter__(self) -> Iterator[Any]:
        at = time.mktime((2026, 11, 26, 23, 40, 13, 0, 0, -1))
        while True:
            yield look(time=at)
            at += 60
            time.sleep(0.01)


def until(terminal: int, wanted: bytes | None) -> bytes:
    """What is written until `wanted` is there; None: until the end."""
    seen = b""
    deadline = time.monotonic() + 30
    while wanted is None or wanted not in seen:
        assert time.monotonic() < deadline, seen[-500:]
        if select.select([terminal], [], [], 1)[0]:
            try:
                part = os.read(terminal, 65_536)
            except OSError:
                return seen
            if not part:
                return seen
            seen += part
    return seen
