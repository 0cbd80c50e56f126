"""Collects what is wrong with the files and options of a simulation, to tell it all at once."""

from __future__ import annotations

from gearshift.errors import ConfigurationInvalid, Problem

SHOWN = 20
"""Mistakes told one by one; a wrong column of a long file would otherwise fill the screen."""


class Mistakes:
    """The mistakes found so far, in the order in which they were found."""

    __slots__ = ("_count", "_problems")

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, file: str, line: int | None, column: str, message: str) -> None:
        """`line` counts from 1, the header being line 1; None and "" where neither applies."""
        self._count += 1
        if self._count > SHOWN:
            return
        where = [] if line is None else [f"line {line}"]
        if column:
            where.append(f"column {column}")
        self._problems.append(Problem(file, ", ".join(where), message))

    def raise_if_any(self) -> None:
        """ConfigurationInvalid with the first mistakes and how many more there are."""
        if not self._count:
            return
        lines = [str(problem) for problem in self._problems]
        if self._count > SHOWN:
            lines.append(f"and {self._count - SHOWN} more")
        if len(lines) == 1:
            raise ConfigurationInvalid(lines[0])
        listed = "\n  ".join(lines)
        raise ConfigurationInvalid(f"{self._count} mistakes:\n  {listed}")
