"""Judges manifests by their schemas: [--since MINOR] FILE... Prints a line for each mistake.

Runs in the environment of deploy/schemas.lock after `make build/schemas/.ready`. Objects of
Kubernetes must be valid in every version that the chart supports, or since 1.MINOR, custom resources as their own
packages say; a property that a schema does not name is a mistake.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

SCHEMAS = Path(__file__).parents[1] / "build" / "schemas"
BY_HAND = Path(__file__).parent / "gateway_api.json"
OLDEST = 29  # of Kubernetes 1.x; `kubeVersion` in Chart.yaml says the same


def versions(since: int) -> list[int]:
    """The minor versions of Kubernetes 1.x, oldest first."""
    found = (int(each.name.split(".")[1]) for each in SCHEMAS.glob("kubernetes-1.*"))
    return sorted(each for each in found if each >= since)


@cache
def definitions(minor: int) -> Any:
    text = (SCHEMAS / f"kubernetes-1.{minor}" / "_definitions.json").read_text()
    return Resource.from_contents(json.loads(text)) @ Registry()


def schema_of(kind: str, api_version: str, minor: int) -> Any:
    """None where there is no schema of this kind."""
    if kind in (by_hand := json.loads(BY_HAND.read_text())):
        return by_hand[kind]
    custom = SCHEMAS / f"{kind}-{api_version.replace('/', '-')}.json"
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    native = SCHEMAS / f"kubernetes-1.{minor}" / f"{kind.lower()}-{group}.json"
    file = custom if custom.exists() else native
    return json.loads(file.read_text()) if file.exists() else None


@cache
def validator(kind: str, api_version: str, minor: int) -> Draft202012Validator | None:
    schema = schema_of(kind, api_version, minor)
    return schema and Draft202012Validator(schema, registry=definitions(minor))


def mistakes(manifest: Any, minors: list[int]) -> Iterator[str]:
    """A line for each mistake: where it is, what it is, and in which version of Kubernetes."""
    if not isinstance(manifest, dict) or not {"apiVersion", "kind"} <= manifest.keys():
        yield "not a manifest: apiVersion and kind are needed"
        return
    kind, api_version = manifest["kind"], manifest["apiVersion"]
    for minor in minors:
        judge = validator(kind, api_version, minor)
        where = f"{kind} {manifest.get('metadata', {}).get('name')} (Kubernetes 1.{minor})"
        if judge is None:
            yield f"{where}: there is no schema of {kind} in {api_version}"
            continue
        for error in judge.iter_errors(manifest):
            yield f"{where}: {error.json_path}: {error.message[:300]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--since", type=int, default=OLDEST, metavar="MINOR")
    parser.add_argument("files", nargs="+")
    given = parser.parse_args()
    minors = versions(given.since)
    count = judged = 0
    for file in given.files:
        for manifest in yaml.safe_load_all(Path(file).read_text()):
            if manifest is None:
                continue
            judged += 1
            for mistake in mistakes(manifest, minors):
                count += 1
                print(f"{file}: {mistake}")
    print(f"{judged} manifests, {count} mistakes, Kubernetes 1.{minors[0]} to 1.{minors[-1]}")
    return min(count, 1) if judged else 2


if __name__ == "__main__":
    sys.exit(main())
