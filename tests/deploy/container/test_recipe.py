"""What the image is made from: the recipe, the lock files and what is sent to the builder.

The image itself is built and run by `make image-test`.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy.container.lock_debian import ARCHITECTURES, wanted
from deploy.container.root import Package, locked
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import tool

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "container"
RECIPE = (FOLDER / "Containerfile").read_text()
PYTHON = {"python_version": "3.13", "python_full_version": "3.13.5", "extra": ""}
"""Of Debian 13, which the image's root file system is."""
EXTRAS = ("postgres", "otel", "steps")
LEFT_OUT = frozenset(
    re.findall(r"^([\w.-]+) ;", (FOLDER / "steps.override").read_text(), re.MULTILINE)
)
"""What packages ask for and is not needed: the reason stands in that file."""
RELOCK = "make image-lock"


def pins(path: Path) -> dict[str, set[str]]:
    """Name to versions: a lock file may name one for each version of Python."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.\-]+)==([^\s;\\]+)", path.read_text(), re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def needed() -> Iterator[Requirement]:
    """What pyproject.toml says that a server in a container needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = (line for name in EXTRAS for line in project["optional-dependencies"][name])
    for line in (*project["dependencies"], *extras):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(PYTHON):
            yield requirement


def of_distribution(name: str) -> Iterator[Requirement]:
    """What an installed package needs without extras; nothing if it is not installed here."""
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(PYTHON):
            yield requirement


def test_hadolint_is_content():
    judged = subprocess.run(
        [tool("hadolint"), "--no-fail", FOLDER / "Containerfile"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert judged.stdout == ""


@pytest.mark.parametrize("flavour", ["cpu", "gpu"])
def test_the_lock_files_hold_what_pyproject_needs(flavour):
    locked_ones = pins(FOLDER / f"python-{flavour}.lock")
    tested = pins(ROOT / "requirements.lock")
    todo = list(needed())
    seen = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in LEFT_OUT:
            assert name not in locked_ones
            continue
        if flavour == "gpu" and name == "onnxruntime":
            name = "onnxruntime-gpu"
        (version,) = locked_ones.get(name, {None})
        assert version, f"{name} is not in python-{flavour}.lock: {RELOCK}"
        assert requirement.specifier.contains(version), f"{name} {version}: {RELOCK}"
        if name in tested:
            assert version in tested[name], f"the tests ran with another {name}: {RELOCK}"
        if name not in seen:
            seen.add(name)
            todo += of_distribution(name)


@pytest.mark.parametrize("name", ["python-cpu", "python-gpu", "build", "audit"])
def test_every_wheel_is_named_by_hash(name):
    entries = re.split(r"\n(?=\S)", (FOLDER / f"{name}.lock").read_text())
    pinned = [entry for entry in entries if "==" in entry.splitlines()[0]]
    assert pinned
    assert all("--hash=sha256:" in entry for entry in pinned)
    # The builder judges markers by its own architecture, not by that of the image.
    assert not any(";" in entry.splitlines()[0] for entry in pinned if name.startswith("python"))


def test_one_onnxruntime_only():
    assert "onnxruntime-gpu" not in pins(FOLDER / "python-cpu.lock")
    assert "onnxruntime" not in pins(FOLDER / "python-gpu.lock")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_debian_package_is_locked_for_each_architecture(architecture):
    names = wanted((FOLDER / "debian.txt").read_text())
    packages = locked((FOLDER / "debian.lock").read_text(), architecture)
    assert sorted(each.name for each in packages) == sorted(names), RELOCK
    assert packages[0].name == "base-files"
    assert all(re.fullmatch("[0-9a-f]{64}", each.sha256) for each in packages)


def test_a_lock_file_for_one_architecture():
    text = "zlib1g 1 arm64 b\nbase-files 2 arm64 c\nnetbase 3 all d\nlibc6 4 amd64 e\n"
    assert locked(text, "arm64") == [
        Package("base-files", "2", "arm64", "c"),
        Package("netbase", "3", "all", "d"),
        Package("zlib1g", "1", "arm64", "b"),
    ]


def test_the_recipe_says_what_clusters_ask_for():
    last = RECIPE.rsplit("FROM scratch AS root", 1)[1]
    for line in (
        "USER 10001:10001",
        'ENTRYPOINT ["gearshift"]',
        'CMD ["serve"]',
        "EXPOSE 8001 8002",
        'VOLUME ["/state"]',
        'CMD ["gearshift", "health"]',
        "GEARSHIFT_HOST=0.0.0.0",
        "GEARSHIFT_REPOSITORY=/models",
        "GEARSHIFT_STATE_DIR=/state",
        "GEARSHIFT_LOG_FORMAT=json",
    ):
        assert line in last, line
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in last
    # What is built last is what is built without a target.
    assert re.findall(r"^FROM .* AS (\w+)$", RECIPE, re.MULTILINE)[-1] == "server"


def test_the_builder_is_sent_what_is_copied_and_no_more():
    ignored = (ROOT / ".dockerignore").read_text().split()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    lines = re.findall(r"^COPY (?!--from)(.*) \S+$", RECIPE, re.MULTILINE)
    copied = {source for line in lines for source in line.split()}
    assert {source for source in copied if not source.startswith("deploy/container/")} == (
        sent - {"deploy/container"}
    )
    for source in copied:
        assert list(ROOT.glob(source.replace("${FLAVOUR}", "*"))), f"{source}: no such file"
