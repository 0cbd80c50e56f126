"""`make conformance`: asks gearshift and a real Triton, and writes down what both say."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from conformance.reasons import reason
from conformance.servers import gearshift, triton
from conformance.table import RECORDED, differing, outcomes, page
from gearshift.client import Client


def client_answers(address: str) -> None:
    """gearshift's own client against a server that is none; AssertionError if it does not work."""
    with Client(address) as client:
        assert client.ready("sum")
        answer = client.infer("sum", {"x": np.array([[1, 2, 3]], np.float32)}, budget=10.0)
        assert answer["y"].tolist() == [[6.0]]
        assert (answer.variant, answer.accuracy) == (None, None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build/peers"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    with gearshift() as address:
        ours = outcomes(address)
    with triton(arguments.build.resolve()) as address:
        theirs = outcomes(address)
        client_answers(address)
    RECORDED.write_text(json.dumps(theirs, indent=1) + "\n")
    (arguments.out / "conformance.md").write_text(page(ours, theirs))
    other = differing(ours, theirs)
    unexplained = [name for name in other if not reason(name)]
    print(f"{len(ours)} calls, {len(other)} differ, {len(unexplained)} of them for no known reason")
    for name in unexplained:
        print(f"{name}\n  gearshift {ours[name]}\n  Triton    {theirs[name]}")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
