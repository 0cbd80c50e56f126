"""Repositories that are wrong, incomplete or not there, while models are loaded anew."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from loadtests.peers.peer import ROOT
from loadtests.reliability.faults.fault import Act, Fault, Group
from loadtests.reliability.faults.scene import Scene

FAILED = 'gearshift_reloads_total{model="%s",result="failed"}'
TOML, ARTIFACT = "sums/model.toml", "sums/slow/model.onnx"
CARD = "fraud/trees-small/card.json"
SETTLE = 0.3
"""Seconds: watch_settle_seconds of the server here."""

ASIDE = "aside"


def refused(name: str, file: str, spoil: Callable[[Path], None], model: str = "sums") -> Fault:
    """A file of a model is spoilt, and the model asked for; it must be refused, and what is served
    stays. Then the file is put back."""

    def strike(scene: Scene) -> str:
        path = scene.repository / file
        shutil.copy(path, scene.folder / ASIDE)
        spoil(path)
        said = scene.load(model)
        if not said.startswith("FAILED_PRECONDITION"):
            raise RuntimeError(f"the load was answered {said!r} instead of FAILED_PRECONDITION")
        return said

    def mend(scene: Scene) -> str:
        path = scene.repository / file
        path.unlink(missing_ok=True)
        (scene.folder / ASIDE).rename(path)
        return f"then: {scene.load(model)}"

    return Fault(name=name, strike=strike, mend=mend, seconds=1.0, counted=FAILED % model)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def noise(path: Path) -> None:
    path.write_bytes(os.urandom(65_536))


def other_signature(path: Path) -> None:
    shutil.copy(path.parents[2] / "small" / "v" / "model.onnx", path)


def link_outside(path: Path) -> None:
    outside = path.parents[3] / "outside.onnx"
    path.rename(outside)
    path.symlink_to(outside)


def huge(path: Path) -> None:
    """Sparse: no disk is needed."""
    os.truncate(path, 5 * 2**30)


def other_hash(path: Path) -> None:
    text = path.read_text()
    at = text.index('"artifact_sha256": "') + len('"artifact_sha256": "')
    path.write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :])


def half_copied(scene: Scene) -> str:
    """The watcher sees half a file for longer than it waits, then the whole one."""
    path = scene.repository / ARTIFACT
    whole = path.read_bytes()
    with path.open("wb") as file:
        file.write(whole[: len(whole) // 2])
        file.flush()
        time.sleep(1.0 + SETTLE)
        file.write(whole[len(whole) // 2 :])
    return ""


def growing(scene: Scene) -> str:
    """As a copy over a slow network."""
    path = scene.repository / ARTIFACT
    whole = path.read_bytes()
    with path.open("wb") as file:
        for at in range(0, len(whole), len(whole) // 20):
            file.write(whole[at : at + len(whole) // 20])
            file.flush()
            time.sleep(SETTLE / 3)
    return ""


def moved(*models: str) -> tuple[Act, Act]:
    """Take folders away, and put them back."""

    def away(scene: Scene) -> str:
        aside = scene.folder / ASIDE
        aside.mkdir()
        for model in models or [each.name for each in scene.repository.iterdir()]:
            (scene.repository / model).rename(aside / model)
        return scene.signal(signal.SIGHUP)

    def back(scene: Scene) -> str:
        aside = scene.folder / ASIDE
        for folder in aside.iterdir():
            folder.rename(scene.repository / folder.name)
        aside.rmdir()
        return scene.signal(signal.SIGHUP)

    return away, back


def unknown(scene: Scene) -> str:
    said = scene.load("nobody")
    if not said.startswith("NOT_FOUND"):
        raise RuntimeError(f"the load was answered {said!r} instead of NOT_FOUND")
    return said


def many_reloads(scene: Scene) -> str:
    for number in range(20):
        said = scene.load_changed(number)
        if said != "OK":
            raise RuntimeError(f"reload {number} was answered {said!r}")
    return "20 x OK"


def storm(scene: Scene) -> str:
    for _ in range(500):
        scene.signal(signal.SIGHUP)
        time.sleep(0.002)
    return ""


GONE, GONE_BACK = moved("other")
UNMOUNTED, MOUNTED = moved()

FAULTS = (
    refused("model.toml is broken", TOML, lambda path: path.write_text("[[variants\n") and None),
    refused(
        "model.toml names an unknown key",
        TOML,
        lambda path: path.write_text("budgets = 1\n" + path.read_text()) and None,
    ),
    refused("an ONNX file is cut in half", ARTIFACT, cut),
    refused("an ONNX file is noise", ARTIFACT, noise),
    refused("an ONNX file is missing", ARTIFACT, Path.unlink),
    refused("an ONNX file of another signature", ARTIFACT, other_signature),
    refused("an artifact is a link out of the repository", ARTIFACT, link_outside),
    refused("an artifact of 5 GiB", ARTIFACT, huge),
    refused("a card names another hash than the artifact's", CARD, other_hash, "fraud"),
    Fault(
        name="half an artifact is there for a second, the folder is watched",
        strike=half_copied,
        seconds=1.0,
        counted=FAILED % "sums",
    ),
    Fault(
        name="an artifact is copied slowly, the folder is watched",
        strike=growing,
        seconds=1.0,
    ),
    Fault(
        name="a model's folder is removed, and comes back",
        strike=GONE,
        mend=GONE_BACK,
        seen=("NOT_FOUND",),
        counted='gearshift_reloads_total{model="other",result="unloaded"}',
    ),
    Fault(name="the repository is empty, as if not mounted", strike=UNMOUNTED, mend=MOUNTED),
    Fault(name="a model without a folder is asked for", strike=unknown, seconds=0.5),
    Fault(
        name="20 reloads without a pause",
        strike=many_reloads,
        seconds=0.0,
        counted='gearshift_reloads_total{model="sums",result="loaded"}',
    ),
    Fault(name="500 SIGHUPs in a second", strike=storm, seconds=1.0),
)

GROUPS = (
    Group(
        "repository",
        lambda: Scene(
            "--watch",
            *("--set", f"watch_settle_seconds={SETTLE}"),
            copied=(ROOT / "model_repo" / "fraud",),
        ),
        FAULTS,
    ),
)
