"""A comparison written to a folder: the page and the picture in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gearshift.errors import ConfigurationInvalid
from gearshift.simulate.compare import Comparison
from gearshift.simulate.picture import draw
from gearshift.simulate.report import markdown
from gearshift.simulate.writing import check_writable


def result_paths(folder: Path, workload: Path, kind: str = "") -> tuple[Path, Path]:
    """Where the page and the picture for a workload go, `kind` at the end of their names; the
    folder is made if need be.

    Raises ConfigurationInvalid if they could not be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationInvalid(f"--out {folder}: cannot be made: {error.strerror}") from None
    page = folder / f"simulate-{workload.stem}{kind}.md"
    picture = page.with_suffix(".png")
    for path in (page, picture):
        check_writable(path, "--out")
    return page, picture


def published(
    comparison: Comparison, page: Path, picture: Path, scale: float, command: Sequence[str]
) -> dict[Path, bytes]:
    """The contents of both files; `scale` is the highest accuracy of the scenario."""
    name = comparison.results[0].files["workload"]["name"]
    return {
        page: markdown(comparison, scale, " ".join(command), picture.name).encode(),
        picture: draw(comparison, f"Policies on {name}, by load"),
    }
