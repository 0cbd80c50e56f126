"""gearshift itself, and the plain Python servers: both run in this Python environment."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from loadtests.peers.models import BIG, NARROWER, Files, make
from loadtests.peers.peer import HERE, ROOT, Launch, Peer, Place

CORES = os.cpu_count() or 1

MODEL_TOML = """\
metric = "accuracy"
max_batch_size = {batch}
default_class = "default"

# No budget of its own: the caller's deadline says how long a request may take.
[classes.default]
"""
VARIANT_TOML = """
[[variants]]
name = "{name}"
version = {version}
executor = "onnx"
accuracy = {accuracy}
"""
ACCURACIES = (1.0, 0.95, 0.9)
"""Declared: the weights are random, only the order counts."""


def write_model(folder: Path, files: Files) -> None:
    text = MODEL_TOML.format(batch=files.model.max_batch)
    for number, each in enumerate((files, *files.variants)):
        name, accuracy = each.model.name, ACCURACIES[number]
        text += VARIANT_TOML.format(name=name, version=number + 1, accuracy=accuracy)
        artifact = folder / name / "model.onnx"
        artifact.parent.mkdir(parents=True, exist_ok=True)
        artifact.unlink(missing_ok=True)
        os.link(each.artifact, artifact)
    (folder / "model.toml").write_text(text)


def write_repository(name: str, place: Place, models: Mapping[str, Files]) -> None:
    """The repository, and no profile of another day."""
    for folder in (place.folder / name, place.folder / f"{name}-state"):
        shutil.rmtree(folder, ignore_errors=True)
    for files in models.values():
        write_model(place.folder / name / files.model.name, files)


def gearshift(name: str, place: Place, port: int) -> Launch:
    return Launch(
        (
            *(sys.executable, "-m", "gearshift", "serve"),
            *("--grpc-port", str(port), "--http-port", "0", "--log-level", "warning"),
            *("--repository", str(place.folder / name)),
            *("--state-dir", str(place.folder / f"{name}-state")),
        ),
        {"PYTHONPATH": str(ROOT / "service")},
    )


def with_variants(place: Place) -> Mapping[str, Files]:
    """The big model with the narrower ones in its place, where a deadline asks for it."""
    narrower = tuple(make(model, place.artifacts.parent / "variants") for model in NARROWER)
    big = place.models[BIG.name]
    return {**place.models, BIG.name: replace(big, variants=narrower)}


def plain(style: str, place: Place, port: int) -> Launch:
    script = str(HERE / "plain_server.py")
    command = (sys.executable, script, style, str(port), str(CORES), str(place.artifacts))
    return Launch(command, processes=CORES)


def nothing(place: Place) -> None:
    """The models' files are all that a plain server needs."""


GEARSHIFT = Peer(
    "gearshift",
    "gearshift",
    lambda place: write_repository("repository", place, place.models),
    partial(gearshift, "repository"),
)
GEARSHIFT_VARIANTS = Peer(
    "gearshift-variants",
    "gearshift, three variants of the big model",
    lambda place: write_repository("repository-variants", place, with_variants(place)),
    partial(gearshift, "repository-variants"),
    with_variants,
)
PLAIN_SYNC = Peer(
    "plain-sync", f"plain gRPC, synchronous, {CORES} processes", nothing, partial(plain, "sync")
)
PLAIN_ASYNCIO = Peer(
    "plain-asyncio",
    f"plain gRPC, asyncio + uvloop, {CORES} processes",
    nothing,
    partial(plain, "asyncio"),
)
