"""docs/results/reliability.md, put together from what the benches have left.

    python -m loadtests.reliability.page

Each bench writes its own section into build/reliability. A bench that has left none there keeps the
section that the page has, which names the code it was made of; what was never run is named with the
command that runs it, and no figure stands in its place.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtests.peers.peer import ROOT


@dataclass(frozen=True, slots=True)
class Part:
    """A section: the file `name`.md, what it shows, and the Makefile target that makes it."""

    name: str
    title: str
    target: str


PARTS = (
    Part("faults", "Faults", "bench-faults"),
    Part("reloads", "Hot reloads", "bench-reloads"),
    Part("drains", "Drains", "bench-drains"),
    Part("simulation", "Simulation with faults", "simulate-faults"),
    Part("fuzz", "Fuzzing", "fuzz"),
    Part("soak", "Soak", "soak"),
    Part("overload", "Overload and fairness", "bench-overload"),
    Part("hostile", "Hostile peers", "bench-hostile"),
    Part("credentials", "Wrong credentials", "bench-credentials"),
)

HEAD = """\
# Reliability

What is put into gearshift to make it lose requests, answer late, grow, or let somebody in, and what
came of it. Each section says what was done, by which command, and on what machine; `make
reliability-page` puts them together from what the last runs have left.
"""

MARK = re.compile(r"^<!-- section (\w+) -->$", re.MULTILINE)
"""Stands before each section: benches give theirs the titles they like."""

UNMEASURED = "Not measured yet:"

HEADING = re.compile(r"^(#+) (.*)$", re.MULTILINE)
PICTURE = re.compile(r"\]\(\.\./pictures/(\S+)\)")


def put_together(found: Mapping[str, str]) -> str:
    """The page, from the sections that there are by name."""
    parts = [HEAD, contents(found)]
    for part in PARTS:
        parts.append(f"<!-- section {part.name} -->\n")
        if text := found.get(part.name, "").strip():
            parts.append(section(text, part))
        else:
            parts.append(f"## {part.title}\n\n{UNMEASURED} `make {part.target}`.\n")
    return "\n".join(parts)


def kept(page: str) -> dict[str, str]:
    """By name the sections that a page has, without those that were not measured."""
    _, *pieces = MARK.split(page)
    texts = dict(zip(pieces[::2], pieces[1::2], strict=True))
    return {name: text for name, text in texts.items() if UNMEASURED not in text}


def contents(found: Mapping[str, str]) -> str:
    rows = "\n".join(
        f"| {part.title} | `make {part.target}` |"
        f" {'below' if found.get(part.name, '').strip() else 'not measured yet'} |"
        for part in PARTS
    )
    return f"| what | command | figures |\n| --- | --- | --- |\n{rows}\n"


def section(text: str, part: Part) -> str:
    """One bench's text under headings of the second level and below, and with its command if it
    does not name it."""
    code, lines, fenced = "```", [], False
    shallowest = min((len(marks) for marks, _ in HEADING.findall(_unfenced(text))), default=2)
    for line in text.splitlines():
        fenced ^= line.startswith(code)
        heading = None if fenced else HEADING.match(line)
        lines.append(f"{'#' * (2 - shallowest)}{line}" if heading and shallowest < 2 else line)
    whole = "\n".join(lines)
    if not whole.startswith("## "):
        whole = f"## {part.title}\n\n{whole}"
    if f"make {part.target}" not in whole:
        whole += f"\n\nCommand: `make {part.target}`."
    return f"{whole}\n"


def _unfenced(text: str) -> str:
    return "".join(text.split("```")[::2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measured", type=Path, default=ROOT / "build" / "reliability")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "reliability.md")
    asked = parser.parse_args()
    found = kept(asked.out.read_text()) if asked.out.is_file() else {}
    for part in PARTS:
        file = asked.measured / f"{part.name}.md"
        if file.is_file():
            found[part.name] = file.read_text()
    page = put_together(found)
    for picture in PICTURE.findall(page):
        made = asked.measured / picture
        if made.is_file():
            goal = asked.out.parents[1] / "pictures" / picture
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(made, goal)
    asked.out.write_text(page)
    missing = [part.target for part in PARTS if part.name not in found]
    print(
        f"{asked.out}: {len(found)} of {len(PARTS)} sections"
        + (
            f"; not measured yet: {', '.join(f'make {each}' for each in missing)}"
            if missing
            else ""
        )
    )


if __name__ == "__main__":
    main()
