"""`make simulate-faults RUNS=10000 SEED=0`: runs of the whole server with faults from seeds.

Prints every seed whose run breaks an invariant and the command that replays it, and writes
simulation.json and simulation.md. Goes on behind what simulation.parts.jsonl has: remove that to
begin anew. `--replay SEED` makes the scenario as small as it can and says
what is wrong.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections import Counter
from pathlib import Path

from simulation.check import Shown, check, smallest
from simulation.mutations import MUTATIONS
from simulation.parts import append, done, version
from simulation.put_in import mutation_found
from simulation.report import write

BATCH = 50
"""Runs that a process does before it tells of them."""


def replay(seed: int) -> int:
    small, problems = smallest(seed)
    if not problems:
        print(f"seed {seed}: every invariant holds")
        return 0
    print(small)
    for step in small.steps:
        print(f"  {step}")
    for invariant, found in problems.items():
        print(f"{invariant}:", *found, sep="\n  ")
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("build/reliability"))
    parser.add_argument("--replay", type=int, help="only this seed, made small")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        return replay(arguments.replay)
    seeds = range(arguments.seed, arguments.seed + arguments.runs)
    parts = [seeds[at : at + BATCH] for at in range(0, len(seeds), BATCH)]
    file, code = arguments.out / "simulation.parts.jsonl", version()
    before = done(file, parts, code)
    shown, codes = Shown(), Counter[str]()
    for told, by in before.values():
        shown.merge(told)
        codes[by] += told.runs
    parts = [part for part in parts if part not in before]
    # Spawned: a process that has run nothing yet runs every seed alike.
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for seeds_run, part in zip(parts, pool.imap(check, parts), strict=True):
            append(file, seeds_run, part, code)
            codes[code] += part.runs
            for failure in part.failures:
                print(f"seed {failure.seed}: {', '.join(failure.problems)}; replay it with")
                print(f"  make simulate-faults REPLAY={failure.seed}", flush=True)
            shown.merge(part)
            if sys.stderr.isatty():
                print(f"\r{shown.runs} runs", end="", file=sys.stderr, flush=True)
        found = list(pool.imap(mutation_found, range(len(MUTATIONS)), chunksize=1))
    print(write(shown, found, arguments.out, seeds, codes))
    return 1 if shown.failures or not all(each.after for each in found) else 0


if __name__ == "__main__":
    sys.exit(main())
