"""The studies by name, and their pages written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from gearshift.compress.made import Report
from gearshift.compress.studies.story import Result, draw, page
from gearshift.errors import GearshiftError

STUDIES: Mapping[str, str] = MappingProxyType(
    {
        "checkpointing": "gradient checkpointing: memory against time",
        "calibration": "int8: scales a channel or a tensor, three ways to find them",
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


def publish(name: str, result: Result, results: Path, command: str) -> tuple[Path, Path]:
    """Write `study-<name>.md` and `.png` into `results`."""
    results.mkdir(parents=True, exist_ok=True)
    story = result.story()
    picture, text = results / f"study-{name}.png", results / f"study-{name}.md"
    draw(story, picture)
    text.write_text(page(story, command), encoding="utf-8")
    return text, picture
