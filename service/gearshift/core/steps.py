"""Steps: what stands before and after a network, and makes a model of it that callers can use.

A step before makes the network's inputs from what callers send (a text, an encoded picture); a step
after makes one more output from one that is there. They belong to the model: all its variants are
networks of one signature between the same steps. What each kind does is `gearshift.steps`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gearshift.core.catalog import TensorSpec


class Before(ABC):
    """Makes, of each row of BYTES that a caller sends as `takes`, a row of each input in `makes`.
    `most_bytes` of a row are read."""

    kind: str
    takes: TensorSpec
    makes: tuple[TensorSpec, ...]
    most_bytes: int

    @abstractmethod
    def row(self, sent: bytes) -> Sequence[Any]:
        """An array for each of `makes`, in its shape and type. ValueError with half a sentence
        ("is no text in UTF-8") for what it does not take. From any thread."""


class After(ABC):
    """Makes the output `makes` of the output `of`, which is the network's or that of a step
    before this one."""

    kind: str
    of: str
    makes: TensorSpec
    labels: tuple[str, ...] = ()
    """What the places in `of` mean, in their order, where that is known."""

    @abstractmethod
    def rows(self, values: Any) -> Any:
        """An array (rows, *shape of `makes`) of one (rows, *shape of `of`)."""
