"""What a family's data function returns: three disjoint parts and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Part:
    """Rows to learn from, to choose by or to measure on."""

    inputs: Mapping[str, npt.NDArray[np.generic]]
    """One array for each graph input, by its name; the first dimension of all is n."""
    labels: npt.NDArray[np.int64]
    """Class numbers [n]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSets:
    """No row, and no near-duplicate of one, is in two of the three parts."""

    name: str
    source: str
    licence: str
    training: Part
    calibration: Part
    """Sets the scales of a quantized network and decides every choice."""
    evaluation: Part
    """Is only measured on."""
