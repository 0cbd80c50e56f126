"""What the steps have made, kept by a key of all that decided it: a run goes on where it stopped.

A step's folder appears whole, by a rename, or not at all. Of an ingredient that nothing needs any
more the facts (`made.json`) may be kept alone: for the report, and for what is made elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gearshift.compress.functions import source_sha256
from gearshift.compress.made import Made
from gearshift.compress.recipe import Recipe, parents

if TYPE_CHECKING:
    from torch import nn

ARTIFACT = "artifact"
WEIGHTS = "weights.pt"
FACTS = "made.json"
REVISION = 1
"""Raised when a step comes to mean something else, so that nothing older is taken for it."""


def keys(recipe: Recipe, folder: Path, data_sha256: str) -> Mapping[str, str]:
    """A SHA-256 for each step: of its settings, its functions, what it builds on, and the rows."""
    found: dict[str, str] = {}
    for step in recipe.steps:
        settings = step.model_dump(mode="json", exclude={"publish", "about", "tools"})
        functions = {
            name: source_sha256(spelled, folder) for name, spelled in _functions(step).items()
        }
        files = {}
        if step.kind == "import" and step.onnx is not None:
            files["onnx"] = _file_sha256(folder / step.onnx)
        decided = {
            "revision": REVISION,
            "metric": recipe.metric,
            "output": recipe.output.model_dump(mode="json"),
            "seed": recipe.seed,
            "data": data_sha256,
            "settings": settings,
            "functions": functions,
            "files": files,
            "parents": {name: found[name] for name in parents(step)},
        }
        found[step.name] = hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()
    return found


def _functions(step: Any) -> Mapping[str, str]:
    learning = getattr(step, "learning", None)
    spelled = {
        "network": getattr(step, "network", None),
        "function": getattr(step, "function", None),
        "layout": getattr(step, "layout", None),
        "augment": learning.augment if learning is not None else None,
    }
    return {name: value for name, value in spelled.items() if value is not None}


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Store:
    """Folders `<root>/<step>-<key>/`, one for each step that was done."""

    root: Path

    def folder(self, name: str, key: str) -> Path:
        """Where the step's result is, or will be."""
        return self.root / f"{name}-{key[:16]}"

    def state(self, name: str, key: str) -> Path:
        """The file in which a training of that step keeps how far it is."""
        return self.root / f"{name}-{key[:16]}.state"

    def load(self, name: str, key: str, factory: Callable[[], nn.Module] | None) -> Made | None:
        """What an earlier run made, or None; `factory` gives the layout for kept weights."""
        folder, facts = self.folder(name, key), self.facts(name, key)
        if facts is None or not self.done(name, key):
            return None
        network = None
        if factory is not None and (folder / WEIGHTS).exists():
            import torch

            from gearshift.compress.networks import fill

            network = fill(factory(), torch.load(folder / WEIGHTS, weights_only=True))
        return Made(
            artifact=(folder / ARTIFACT).read_bytes(),
            parameters=facts["parameters"],
            about=facts["about"],
            tools=tuple(facts["tools"]),
            versions=facts.get("versions")
            or {name: metadata.version(name) for name in facts["tools"]},
            figures=facts["figures"],
            network=network,
            factory=factory if network is not None else None,
        )

    def save(self, name: str, key: str, made: Made, seconds: float) -> None:
        """Keep what a step made, and how long it took."""
        self.root.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=self.root))
        try:
            (fresh / ARTIFACT).write_bytes(made.artifact)
            if made.network is not None:
                import torch

                torch.save(made.network.state_dict(), fresh / WEIGHTS)
            facts = {
                "parameters": made.parameters,
                "about": made.about,
                "tools": list(made.tools),
                "versions": dict(made.versions),
                "figures": dict(made.figures),
                "seconds": round(seconds, 1),
            }
            (fresh / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
            self._place(fresh, name, key)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        self.state(name, key).unlink(missing_ok=True)

    def _place(self, fresh: Path, name: str, key: str) -> None:
        """What another process on the same cache has made meanwhile stays: it is the same."""
        if self.done(name, key):
            return
        shutil.rmtree(self.folder(name, key), ignore_errors=True)  # Facts kept alone.
        try:
            fresh.rename(self.folder(name, key))
        except OSError:
            if not self.done(name, key):
                raise

    def done(self, name: str, key: str) -> bool:
        """Whether all that the step made is here."""
        return (self.folder(name, key) / ARTIFACT).exists()

    def facts(self, name: str, key: str) -> Mapping[str, Any] | None:
        """What is known of a step that was done, here or elsewhere: `seconds`, `figures`, ..."""
        path = self.folder(name, key) / FACTS
        if not path.exists():
            return None
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
