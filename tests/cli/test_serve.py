from __future__ import annotations

import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from gearshift.app import server
from gearshift.cli import running
from gearshift.cli.commands import app


@pytest.fixture
def served(monkeypatch):
    """The settings that a server would be started with; none is started."""
    seen = []

    async def serve(settings, on_progress, announce):
        seen.append(settings)

    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.setattr(running, "leave_in_time", lambda code: None)
    return seen


def test_any_setting_can_be_set_and_wins_over_a_named_option(served):
    given = ["serve", "--set", "feedback-days=7", "--set", "drain_seconds=2", "--workers", "3"]
    assert CliRunner().invoke(app, given).exit_code == 0
    (settings,) = served
    assert (settings.feedback_days, settings.drain_seconds, settings.workers) == (7.0, 2.0, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("feedback_days", "expected name=value"),
        ("=1", "expected name=value"),
        ("no_such=1", "unknown setting 'no_such'; there are "),
        ("feedback_days=-1", "setting feedback_days: .*greater than 0"),
    ],
)
def test_a_wrong_one_is_a_clear_error(served, given, message):
    ended = CliRunner().invoke(app, ["serve", "--set", given])
    assert (ended.exit_code, served) == (1, [])
    assert re.search(message, ended.stderr.replace("\n", " "))


HELD = """
import asyncio, threading
from gearshift.cli import running

running.LEAVES_WITHIN = 0.1

async def work():
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    {last}

running.run_to_the_end(work)
"""


@pytest.mark.parametrize(("last", "code"), [("pass", 0), ("raise ValueError", 1)])
def test_a_thread_that_never_comes_back_does_not_keep_the_process(last, code):
    script = HELD.format(last=last)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
    assert done.returncode == code
    assert b"left behind" in done.stdout + done.stderr
