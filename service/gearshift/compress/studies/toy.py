"""Made-up pictures for `--quick` and for tests: a study runs on them in seconds, no more."""

from __future__ import annotations

import numpy as np

from gearshift.compress.dataset import Part
from gearshift.compress.families.garment import INPUT


def stripes(n: int, seed: int) -> Part:
    """Ten classes, told apart by the height of a bright band: uint8 [n, 28, 28]."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int64) % 10
    generator.shuffle(labels)
    pixels = generator.integers(0, 60, (n, 28, 28), dtype=np.uint8)
    for row, label in enumerate(labels):
        pixels[row, 4 + 2 * label : 6 + 2 * label] += 180
    return Part({INPUT: pixels}, labels)


def some(part: Part, n: int, seed: int) -> Part:
    """`n` rows of `part` (all, if it has fewer), drawn without replacement, in their order."""
    drawn = np.random.default_rng(seed).permutation(len(part))[:n]
    return part.rows(np.sort(drawn))
