"""Profiles on disk: kept as long as they are true, and no reason to fail otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from builders import make_model
from gearshift.core.profile import LatencyPoint
from gearshift.profiling import Hardware, ProfileStore, Taken, hardware_id

HERE = Hardware("abc", "a processor")
MODEL = replace(make_model("m"), max_batch_size=2)
LARGE = replace(MODEL.variants[0], artifact_sha256="f" * 64)
POINTS = [LatencyPoint(1, 0.001, 0.002), LatencyPoint(2, 0.0015, 0.003)]


@pytest.fixture
def store(tmp_path: Path) -> ProfileStore:
    return ProfileStore(tmp_path, wall_clock=lambda: 1_700_000_000.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "profiles" / "abc" / "m" / "large.json"


def test_what_was_saved_is_loaded(store: ProfileStore, file: Path) -> None:
    store.save(HERE, MODEL, LARGE, "cpu", POINTS)
    assert store.load(HERE, MODEL, LARGE, "cpu") == POINTS
    document = json.loads(file.read_text())
    assert document["hardware"] == "a processor"
    assert document["devices"]["cpu"]["measured_at"] == "2023-11-14T22:13:20+00:00"
    assert [path.name for path in file.parent.iterdir()] == ["large.json"]


@pytest.mark.parametrize(
    ("batches", "enough"),
    [((1, 8), True), ((1, 4, 8), True), ((1, 4), False), ((2, 8), False), ((1, 3, 8), False)],
)
def test_the_smallest_and_the_largest_batch_are_enough(
    store: ProfileStore, batches: tuple[int, ...], enough: bool
) -> None:
    model = replace(MODEL, max_batch_size=8)
    points = [LatencyPoint(batch, 0.001, 0.002) for batch in batches]
    store.save(HERE, model, LARGE, "cpu", points)
    assert store.load(HERE, model, LARGE, "cpu") == (points if enough else None)


def test_what_loading_took_is_kept_beside_it(store: ProfileStore) -> None:
    taken = Taken(2**30, 1.5)
    store.save(HERE, MODEL, LARGE, "cpu", POINTS)
    assert store.taken(HERE, MODEL, LARGE, "cpu") is None
    store.save(HERE, MODEL, LARGE, "cpu", POINTS, taken)
    assert store.taken(HERE, MODEL, LARGE, "cpu") == taken
    store.save(HERE, MODEL, LARGE, "gpu0", POINTS)
    assert store.load(HERE, MODEL, LARGE, "cpu") == POINTS
    assert store.taken(HERE, MODEL, LARGE, "cpu") == taken
    assert store.taken(HERE, MODEL, LARGE, "gpu0") is None
    other = replace(LARGE, artifact_sha256="e" * 64)
    assert store.taken(HERE, MODEL, other, "cpu") is None


def test_a_broken_file_says_nothing_of_what_loading_took(store: ProfileStore, file: Path) -> None:
    store.save(HERE, MODEL, LARGE, "cpu", POINTS, Taken(1, 1.0))
    file.write_text(file.read_text().replace('"size": 1', '"size": -1'))
    assert store.taken(HERE, MODEL, LARGE, "cpu") is None
    assert store.load(HERE, MODEL, LARGE, "cpu") is None


def test_devices_live_side_by_side(store: ProfileStore) -> None:
    store.save(HERE, MODEL, LARGE, "cpu", POINTS)
    store.save(HERE, MODEL, LARGE, "cuda:0", [POINTS[0], LatencyPoint(2, 1.0, 1.0)])
    assert store.load(HERE, MODEL, LARGE, "cpu") == POINTS
    assert store.load(HERE, MODEL, LARGE, "cuda:0") != POINTS


def test_nothing_is_kept_of_another_artifact(store: ProfileStore) -> None:
    store.save(HERE, MODEL, LARGE, "cuda:0", POINTS)
    newer = replace(LARGE, artifact_sha256="0" * 64)
    store.save(HERE, MODEL, newer, "cpu", POINTS)
    assert store.load(HERE, MODEL, newer, "cuda:0") is None


def test_nothing_there_is_nothing_to_tell(store: ProfileStore) -> None:
    with capture_logs() as lines:
        assert store.load(HERE, MODEL, LARGE, "cpu") is None
    assert lines == []


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ((MODEL, replace(LARGE, artifact_sha256="0" * 64), "cpu"), "another artifact"),
        ((replace(MODEL, max_batch_size=4), LARGE, "cpu"), "up to batch 2, now 4"),
        ((MODEL, LARGE, "cuda:0"), "not measured on 'cuda:0'"),
    ],
)
def test_a_stale_profile_is_ignored_with_one_line(
    store: ProfileStore, asked: Any, part: str
) -> None:
    store.save(HERE, MODEL, LARGE, "cpu", POINTS)
    with capture_logs() as lines:
        assert store.load(HERE, *asked) is None
    (line,) = lines
    assert part in line["reason"]


def edited(**changes: Any) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | changes)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:50],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace("0.001", "NaN"),
        lambda text: text.replace("0.001", "-1"),
        lambda text: text.replace('"batch": 2', '"batch": 3'),
        lambda text: text.replace("0.001", '"0.001"'),
        edited(schema=99),
        edited(model="other"),
        edited(more=1),
        edited(devices={"cpu": {"measured_at": "", "points": []}}),
    ],
)
def test_a_broken_profile_is_ignored_and_replaced(
    store: ProfileStore, file: Path, spoil: Callable[[str], str]
) -> None:
    store.save(HERE, MODEL, LARGE, "cpu", POINTS)
    file.write_text(spoil(file.read_text()))
    with capture_logs() as lines:
        assert store.load(HERE, MODEL, LARGE, "cpu") is None
    assert [line["event"] for line in lines] == ["profile ignored, measured again"]
    store.save(HERE, MODEL, LARGE, "cpu", POINTS)
    assert store.load(HERE, MODEL, LARGE, "cpu") == POINTS


def test_bytes_that_are_no_text(store: ProfileStore, file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\xff\xfe")
    assert store.load(HERE, MODEL, LARGE, "cpu") is None


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    store = ProfileStore(blocked)
    with capture_logs() as lines:
        assert store.load(HERE, MODEL, LARGE, "cpu") is None
        store.save(HERE, MODEL, LARGE, "cpu", POINTS)
        store.save(HERE, MODEL, LARGE, "cpu", POINTS)
    assert [line["log_level"] for line in lines] == ["warning"]


def test_hardware_is_the_same_in_any_order_and_other_with_other_executors() -> None:
    one = Hardware.here(["onnx 1.22 cpu", "torch 2.13"])
    assert one == Hardware.here(["torch 2.13", "onnx 1.22 cpu", "torch 2.13"])
    assert one.id != hardware_id(["onnx 1.23 cpu", "torch 2.13"])
    assert "cores" in one.description
    assert "onnx 1.22 cpu" in one.description
    assert one.id.isalnum()
