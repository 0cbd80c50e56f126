"""The chart rendered by the real helm, for tests."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tools import BUILD, tool

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "chart"


class Refused(Exception):
    """helm rendered nothing; the message is what it said."""


def render(
    values: dict[str, Any] | Path | None = None,
    *options: str,
    release: str = "gs",
    namespace: str = "ml",
    chart: Path = CHART,
) -> str:
    """The manifests as helm writes them. Raises Refused where the values are not good."""
    given = values if isinstance(values, Path) else "-"
    done = subprocess.run(
        [
            *(tool("helm"), "template", release, str(chart), "--namespace", namespace),
            *("--values", str(given), *options),
        ],
        input=None if isinstance(values, Path) else json.dumps(values or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


class Manifests:
    """The rendered objects, by kind and name."""

    def __init__(self, text: str) -> None:
        self.all = [each for each in yaml.load_all(text, yaml.CSafeLoader) if each]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [each for each in self.all if each["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> dict[str, Any]:
        (found,) = [each for each in self.of(kind) if name in (None, each["metadata"]["name"])]
        return found

    @property
    def deployment(self) -> dict[str, Any]:
        return self.one("Deployment")["spec"]

    @property
    def pod(self) -> dict[str, Any]:
        return self.deployment["template"]["spec"]

    def container(self, name: str = "gearshift") -> dict[str, Any]:
        both = self.pod["containers"] + self.pod.get("initContainers", [])
        (found,) = [each for each in both if each["name"] == name]
        return found

    @property
    def env(self) -> dict[str, Any]:
        """What the server is told, by name; the source where it is not a value."""
        return {
            each["name"]: each.get("value", each.get("valueFrom"))
            for each in self.container()["env"]
        }


@cache
def _rendered(values: str, options: tuple[str, ...]) -> Manifests:
    return Manifests(render(json.loads(values), *options))


def manifests(values: dict[str, Any] | None = None, *options: str) -> Manifests:
    """Rendered once for the same values."""
    return _rendered(json.dumps(values or {}), options)


def judged(*files: Path, since: int | None = None) -> tuple[int, str]:
    """Exit code and words of deploy/judge.py; 0 where every manifest is valid."""
    python = BUILD / "schemas-venv" / "bin" / "python"
    assert (BUILD / "schemas" / ".ready").exists(), "there are no schemas: `make tools` makes them"
    options = () if since is None else ("--since", str(since))
    done = subprocess.run(
        [str(python), str(ROOT / "deploy" / "judge.py"), *options, *map(str, files)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
