"""Both servers' outcomes beside each other: kept as JSON, and as a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conformance.asking import Asking
from conformance.cases import cases
from conformance.reasons import reason

Outcomes = Mapping[str, dict[str, Any]]

RECORDED = Path(__file__).parent / "triton.json"
"""What Triton 2.51 said, so that gearshift can be held to it where there is no Triton."""


def outcomes(address: str) -> dict[str, dict[str, Any]]:
    """Of all cases, in order, over one connection."""
    asking = Asking(address)
    try:
        # Through JSON: what was recorded is compared with what can be recorded.
        asked = {case.name: asking.ask(case).plain() for case in cases()}
        return dict(json.loads(json.dumps(asked)))
    finally:
        asking.close()


def differing(ours: Outcomes, theirs: Outcomes) -> list[str]:
    """The cases in which the two do not say the same."""
    return [name for name in ours if ours[name] != theirs[name]]


def page(ours: Outcomes, theirs: Outcomes) -> str:
    """docs/results/conformance.md."""
    other = differing(ours, theirs)
    lines = [
        "# The inference protocol, asked of gearshift and of Triton",
        "",
        f"`make conformance`, 2026-11-27: {len(ours)} calls to Triton 2.51 (Python backend) and to"
        f" gearshift, 2 cores AMD EPYC (AVX2), 24 GiB, Debian 12, Python 3.11, grpcio's client."
        f" Compared are the status, whether a text comes with it, and what each answer says (names,"
        f" datatypes, shapes, bytes, ids, final flags); not the texts themselves, and not who"
        f" answered. In {len(ours) - len(other)} both say the same; in {len(other)} they do not,"
        f" each for a reason.",
        "",
        "| call | gearshift | Triton | why |",
        "| --- | --- | --- | --- |",
    ]
    for name in ours:
        mine, other_one = _short(ours[name]), _short(theirs[name])
        why = reason(name) if name in other else ""
        if name in other and mine == other_one:
            mine, other_one = _long(ours[name]), _long(theirs[name])
        lines.append(f"| {name} | {mine} | {other_one if name in other else 'the same'} | {why} |")
    return "\n".join((*lines, ""))


def _short(outcome: Mapping[str, Any]) -> str:
    return str(outcome["status"])


def _long(outcome: Mapping[str, Any]) -> str:
    text = json.dumps(outcome["answers"]).replace("|", "/")
    return f"{outcome['status']} `{text if len(text) < 90 else text[:90] + '...'}`"
