"""Which clock decides what: the time of day may be set by hours, and no promise moves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gearshift
from builders import make_model
from feedback_place import Place
from gearshift.core.profile import LatencyPoint
from gearshift.profiling import ProfileStore
from gearshift.profiling.hardware import Hardware

ROOT = Path(gearshift.__file__).parent
WALL = re.compile(r"\btime\.time(_ns)?\b|\bdatetime\.|\butcnow\b|\btime\.(localtime|gmtime)\b")
HOUR = 3600.0

JUDGED = {
    "app/capacity.py": "which past a Prometheus is asked for, by its own clock",
    "cli/top.py": "the time of day on the screen",
    "feedback/learning.py": "when a canary was decided: kept, never compared",
    "feedback/recorder.py": "retention: how old answers are",
    "feedback/reporting.py": "retention: how old labels are",
    "profiling/store.py": "when a profile was measured: shown, never compared",
    "telemetry/frontier.py": "the time of day in a snapshot; its rates go by the monotonic clock",
    "telemetry/prometheus.py": "the time of day of exemplars, refusals and of the last inference",
    "tracing/requests.py": "when spans were, for a collector; their lengths are monotonic",
}
"""Every file that asks for the time of day, and why it may."""


def test_whoever_asks_for_the_time_of_day_may():
    asking = {
        file.relative_to(ROOT).as_posix()
        for file in ROOT.rglob("*.py")
        if "compress" not in file.parts and WALL.search(file.read_text())
    }
    # Certificates and tokens are valid by the time of day.
    unjudged = {file for file in asking - JUDGED.keys() if not file.startswith("access/")}
    assert not unjudged, "say in JUDGED why it may, or take a monotonic clock"
    assert JUDGED.keys() <= asking, "no longer asks"


@pytest.mark.parametrize("jump", [-5 * HOUR, 5 * HOUR])
def test_labels_are_counted_across_a_jump(tmp_path, jump):
    place = Place(f"sqlite:///{tmp_path / 'f.sqlite3'}", days=1.0)
    place.answer("kinds", [1], ["before"])
    place.now += jump
    place.answer("kinds", [1], ["after"])
    place.store.prune(place.now)
    assert {each.ruling for each in place.report("kinds", [1, 1], ["before", "after"])} == {
        "counted"
    }
    place.now -= jump
    place.store.prune(place.now)
    assert {each.ruling for each in place.report("kinds", [1, 1], ["before", "after"])} == {
        "duplicate"
    }
    place.close()


@pytest.mark.parametrize("jump", [-5 * HOUR, 5 * HOUR])
def test_a_profile_is_as_good_after_a_jump(tmp_path, jump):
    now = 1_700_000_000.0
    model = make_model(max_batch_size=2)
    points = [LatencyPoint(1, 0.001, 0.002), LatencyPoint(2, 0.001, 0.002)]
    hardware = Hardware("abc", "a machine")
    ProfileStore(tmp_path, lambda: now).save(hardware, model, model.variants[0], "cpu", points)
    later = ProfileStore(tmp_path, lambda: now + jump)
    assert later.load(hardware, model, model.variants[0], "cpu") == points
