"""The studies by name, and their pages written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from gearshift.compress.made import Report
from gearshift.compress.studies.story import Result, draw, page
from gearshift.errors import GearshiftError

STUDIES: Mapping[str, str] = MappingProxyType(
    {
        "checkpointing": "gradient checkpointing: memory against time",
        "calibration": "int8: scales a channel or a tensor, three ways to find them",
        "precision": "bfloat16 against float32, with and without checkpoints",
        "sparsity": "channels removed against weights set to zero",
        "distillation": "a student with a teacher against its twin without",
        "batch-normalization": "with and without it, and folded at export",
        "transfer": "a pretrained start against a random one, by number of labels",
    }
)
"""Each name and what it is about, in the order in which all are carried out."""


class StudyError(GearshiftError):
    """A study cannot be carried out as asked."""


def known(name: str) -> str:
    """`name`, when there is such a study."""
    if name not in STUDIES:
        raise StudyError(f"no study is named {name!r}; there are {', '.join(STUDIES)}")
    return name


def carry_out(name: str, cache: Path, report: Report, *, quick: bool = False) -> Result:
    """Carry out the study `name`."""
    module = import_module(f"gearshift.compress.studies.{known(name).replace('-', '_')}")
    study: Callable[..., Result] = module.study
    try:
        return study(cache, report, quick=quick)
    except ModuleNotFoundError as error:
        raise StudyError(
            f"the study {name!r} needs {error.name}: pip install 'gearshift[compress]'"
        ) from error


@dataclass(frozen=True, slots=True)
class Kept:
    """A result with where and by what it was measured: pages are written from it, also later."""

    result: Result
    machine: str
    command: str


def keep(name: str, found: Kept, cache: Path) -> None:
    """Keep what was measured, so that its page can be written anew without measuring again."""
    place = _place(name, cache)
    place.parent.mkdir(parents=True, exist_ok=True)
    result: Any = found.result
    told = {"result": asdict(result), "machine": found.machine, "command": found.command}
    place.write_text(json.dumps(told), encoding="utf-8")


def kept(name: str, cache: Path) -> Kept:
    """What `keep` kept; StudyError where there is nothing."""
    place = _place(known(name), cache)
    if not place.exists():
        raise StudyError(f"{place}: no such file; carry out the study first, without --redraw")
    study = import_module(f"gearshift.compress.studies.{name.replace('-', '_')}").study
    try:
        told = json.loads(place.read_text(encoding="utf-8"))
        result: Result = TypeAdapter(get_type_hints(study)["return"]).validate_python(
            told["result"]
        )
        return Kept(result, str(told["machine"]), str(told["command"]))
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise StudyError(
            f"{place}: is not what a study keeps ({error}); carry out the study again"
        ) from error


def _place(name: str, cache: Path) -> Path:
    return cache / "studies" / f"{name}.json"


def publish(name: str, found: Kept, results: Path) -> tuple[Path, Path]:
    """Write `study-<name>.md` and `.png` into `results`."""
    results.mkdir(parents=True, exist_ok=True)
    story = found.result.story()
    picture, text = results / f"study-{name}.png", results / f"study-{name}.md"
    draw(story, picture)
    text.write_text(page(story, found.command, found.machine), encoding="utf-8")
    return text, picture
