"""Both servers' outcomes beside each other: kept as JSON, and as a page."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from conformance.asking import Asking
from conformance.case import Outcome
from conformance.reasons import reason
from conformance.rest import ask, region
from conformance.servers import At
from conformance.suite import over_grpc, over_http

Outcomes = Mapping[str, dict[str, Any]]

RECORDED = Path(__file__).parent / "triton.json"
"""What Triton 2.51 said, so that gearshift can be held to it where there is no Triton."""


def outcomes(served: Callable[[], AbstractContextManager[At]]) -> dict[str, dict[str, Any]]:
    """Of all cases, in order: over one connection those of gRPC, then those over HTTP. A server
    that ends of a case is served anew for the next."""
    asked: dict[str, dict[str, Any]] = {}
    with region(), ExitStack() as serving:
        at = serving.enter_context(served())
        asking = Asking(at.grpc)
        try:
            asked |= {case.name: asking.ask(case).plain() for case in over_grpc()}
        finally:
            asking.close()
        for case in over_http():
            try:
                asked[case.name] = ask(at.http, case).plain()
            except (http.client.HTTPException, OSError):
                asked[case.name] = Outcome("no answer").plain()
                serving.pop_all().close()
                at = serving.enter_context(served())
    # Through JSON: what was recorded is compared with what can be recorded.
    return dict(json.loads(json.dumps(asked)))


def differing(ours: Outcomes, theirs: Outcomes) -> list[str]:
    """The cases in which the two do not say the same."""
    return [name for name in ours if ours[name] != theirs[name]]


def unexplained(ours: Outcomes, theirs: Outcomes) -> list[str]:
    """Those of them that nothing explains."""
    return [name for name in differing(ours, theirs) if not reason(name, ours[name], theirs[name])]


def page(ours: Outcomes, theirs: Outcomes) -> str:
    """docs/results/conformance.md."""
    other = differing(ours, theirs)
    lines = [
        "# The inference protocol, asked of gearshift and of Triton",
        "",
        f"`make conformance`, 2026-11-27: {len(ours)} calls to Triton 2.51 (Python backend) and to"
        " gearshift, over gRPC (grpcio's client) and HTTP (those that begin with REST), 2 cores"
        " AMD EPYC (AVX2), 24 GiB, Debian 12, Python 3.11. Compared are the status, whether a text"
        " comes with it, and what each answer says (names, datatypes, shapes, bytes, ids, final"
        " flags); not the texts themselves, and not who answered."
        f" In {len(ours) - len(other)} both say the same; in {len(other)} they do not, each for a"
        " reason.",
        "",
        "| call | gearshift | Triton | why |",
        "| --- | --- | --- | --- |",
    ]
    for name in ours:
        mine, other_one = _short(ours[name]), _short(theirs[name])
        why = reason(name, ours[name], theirs[name]) if name in other else ""
        if name in other and mine == other_one:
            mine, other_one = _long(ours[name]), _long(theirs[name])
        lines.append(f"| {name} | {mine} | {other_one if name in other else 'the same'} | {why} |")
    return "\n".join((*lines, ""))


def _short(outcome: Mapping[str, Any]) -> str:
    return str(outcome["status"])


def _long(outcome: Mapping[str, Any]) -> str:
    text = json.dumps(outcome["answers"]).replace("|", "/")
    return f"{outcome['status']} `{text if len(text) < 90 else text[:90] + '...'}`"
