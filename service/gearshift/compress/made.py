"""What a step gives, and what it is given to work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gearshift.compress.dataset import DataSets
from gearshift.compress.recipe import Output
from gearshift.errors import GearshiftError

if TYPE_CHECKING:
    from torch import nn

Report = Callable[[str], None]
"""Is told what happens, one line at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A variant that has been made but not measured on the evaluation part."""

    artifact: bytes
    """The file that an executor loads."""
    parameters: int
    """How many numbers it learned."""
    about: str
    """What it is, in a sentence."""
    tools: tuple[str, ...]
    """Names of the installed distributions that shaped it."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """The versions of `tools` where it was made, which may be another machine."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What was found on the way, for the report; plain JSON values."""
    network: nn.Module | None = None
    """The trained network behind the artifact, where there is one: later steps go on from it."""
    factory: Callable[[], nn.Module] | None = None
    """Makes the network's layout anew, with any weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What every step is given beside its own settings."""

    data: DataSets
    """Steps read the training and the calibration part. The evaluation part is not theirs."""
    output: Output
    metric: str
    seed: int
    folder: Path
    """Where the recipe lies: its own functions and files are looked up from there."""
    cache: Path
    """Downloads and whatever else a function wants to keep."""
    report: Report
    made: Mapping[str, Made]
    """The steps before, by name."""
    state: Path | None = None
    """A file in which a long training keeps how far it is, so that a killed run goes on."""


class StepError(GearshiftError):
    """A step cannot do what its settings ask."""


def network_of(name: str, shop: Workshop) -> nn.Module:
    """The network behind the step `name`; StepError when there is only a graph."""
    network = shop.made[name].network
    if network is None:
        raise StepError(
            f"step {name!r} has no network behind its artifact, only a graph; name a step of "
            "kind train, prune, or import with `network`"
        )
    return network.cpu()
