"""What every data set of a recipe comes as: three parts that share no content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Part:
    """Rows with their labels: one array a graph input, by name, the first dimension is n."""

    inputs: Mapping[str, npt.NDArray[np.generic]]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSets:
    """Training teaches, calibration sets scales and makes every choice, evaluation only measures.

    The three parts are pairwise disjoint in content.
    """

    name: str
    source: str
    licence: str
    training: Part
    calibration: Part
    evaluation: Part
