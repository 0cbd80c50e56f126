"""`make conformance`: asks gearshift and a real Triton, and writes down what both say."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np

from conformance.servers import gearshift, triton
from conformance.table import RECORDED, differing, outcomes, page, unexplained
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
    ours = outcomes(gearshift)
    theirs = outcomes(partial(triton, arguments.build.resolve()))
    with triton(arguments.build.resolve()) as at:
        client_answers(at.grpc)
    RECORDED.write_text(json.dumps(theirs, indent=1) + "\n")
    (arguments.out / "conformance.md").write_text(page(ours, theirs))
    other = differing(ours, theirs)
    strange = unexplained(ours, theirs)
    print(f"{len(ours)} calls, {len(other)} differ, {len(strange)} of them for no known reason")
    for name in strange:
        print(f"{name}\n  gearshift {ours[name]}\n  Triton    {theirs[name]}")
    return 1 if strange else 0


if __name__ == "__main__":
    sys.exit(main())
