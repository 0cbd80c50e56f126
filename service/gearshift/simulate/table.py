"""A CSV file as columns of text, and its columns as checked numbers and names.

Columns are converted whole, which is quick; only a column in which something is wrong is
looked at cell by cell, to tell which.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gearshift.simulate.mistakes import Mistakes

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """Which file was read: its name, and SHA-256 over its bytes."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Table:
    """The cells of a CSV file by column; `lines` has the line number of each row, `file` the
    name by which mistakes call it."""

    file: str
    source: SourceFile
    lines: Sequence[int]
    columns: dict[str, Sequence[str]]


def read_table(
    path: Path, required: Sequence[str], optional: Sequence[str], mistakes: Mistakes
) -> Table | None:
    """The rows of `path` that have a cell for every column of its header.

    The columns may stand in any order. A missing, unknown or repeated column, a file that
    cannot be read and a row of the wrong width are mistakes; None if there are no columns.
    """
    file = str(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        mistakes.add(file, None, "", f"cannot be read: {error.strerror or error}")
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        mistakes.add(file, line, "", "is not UTF-8 text; save the file as UTF-8 CSV")
        return None
    source = SourceFile(path.name, hashlib.sha256(content).hexdigest())
    reader = csv.reader(io.StringIO(text, newline=""))
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if not _sound_header(file, header, required, optional, mistakes):
            return None
        width = len(header)
        for row in reader:
            if len(row) == width:
                rows.append(row)
                lines.append(reader.line_num)
            elif row:
                mistakes.add(
                    file,
                    reader.line_num,
                    "",
                    f"has {len(row)} cells; the header names {width}: {', '.join(header)}",
                )
    except csv.Error as error:
        mistakes.add(file, reader.line_num, "", f"is not CSV: {error}")
        return None
    if not rows:
        mistakes.add(file, None, "", "has no rows below its header")
        return None
    return Table(file, source, lines, dict(zip(header, zip(*rows, strict=True), strict=True)))


def _sound_header(
    file: str,
    header: Sequence[str],
    required: Sequence[str],
    optional: Sequence[str],
    mistakes: Mistakes,
) -> bool:
    known = [*required, *optional]
    before = len(mistakes)
    expected = f"the header is {','.join(required)}" + "".join(f"[,{name}]" for name in optional)
    if not any(header):
        mistakes.add(file, 1, "", f"has no header; {expected}")
        return False
    for name in required:
        if name not in header:
            mistakes.add(file, 1, name, f"is missing; {expected}")
    for name in dict.fromkeys(header):
        if name not in known:
            mistakes.add(file, 1, name or "(no name)", f"is unknown; {expected}")
        elif header.count(name) > 1:
            mistakes.add(file, 1, name, f"stands there {header.count(name)} times; once is enough")
    return len(mistakes) == before


def names(table: Table, column: str, mistakes: Mistakes, empty: str | None = None) -> list[str]:
    """The column's names without surrounding blanks; `empty` is what an empty cell means,
    None that it is a mistake."""
    stripped = [cell.strip() for cell in table.columns[column]]
    if empty is not None:
        return [name or empty for name in stripped]
    if not all(stripped):
        for line, name in zip(table.lines, stripped, strict=True):
            if not name:
                mistakes.add(table.file, line, column, "is empty; it needs a name")
    return stripped


def numbers(
    table: Table,
    column: str,
    mistakes: Mistakes,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    whole: bool = False,
    empty: float | None = None,
) -> Numbers:
    """The column as finite numbers, NaN where a cell is a mistake.

    A number must be greater than `above` and not less than `least`, and `whole` if asked;
    `empty` is what an empty cell means, None that it is a mistake.
    """
    cells = table.columns[column]
    try:
        values = np.array([float(cell) for cell in cells])
        sound = bool(np.isfinite(values).all()) and not any("_" in cell for cell in cells)
    except ValueError:
        sound = False
    if not sound:
        values = np.array([_number(cell, empty) for cell in cells])
    wrong = ~((values > above) & (values >= least))
    if whole:
        wrong |= values != np.floor(values)
    if empty is not None:
        wrong &= values != empty
    if wrong.any():
        wanted = _wanted(above, least, whole)
        for index in np.flatnonzero(wrong).tolist():
            cell = cells[index].strip()
            said = f"{cell!r} is not" if cell else "is empty; it needs"
            mistakes.add(table.file, table.lines[index], column, f"{said} {wanted}")
        values = np.where(wrong, math.nan, values)
    return values


def _number(cell: str, empty: float | None) -> float:
    if empty is not None and not cell.strip():
        return empty
    try:
        value = float(cell)
    except ValueError:
        return math.nan
    # Python reads 1_000 as a number; in a file it is a slip.
    return value if math.isfinite(value) and "_" not in cell else math.nan


def _wanted(above: float, least: float, whole: bool) -> str:
    kind = "a whole number" if whole else "a finite number"
    if above > -math.inf:
        return f"{kind} above {above:g}"
    return f"{kind} of at least {least:g}" if least > -math.inf else kind
