from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from gearshift.app import server
from gearshift.cli.commands import app


@pytest.fixture
def served(monkeypatch):
    """The settings that a server would be started with; none is started."""
    seen = []

    async def serve(settings, on_progress, announce):
        seen.append(settings)

    monkeypatch.setattr(server, "serve", serve)
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
