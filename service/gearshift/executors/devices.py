"""What an executor has loaded of each variant, device by device."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from gearshift.executors.key import Key

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OnDevices(Generic[T]):
    """`failed`: the devices that it was asked for on, and could not be loaded on."""

    on: Mapping[str, T]
    failed: Sequence[str] = ()


class ByKey(dict[Key, OnDevices[T]]):
    """Devices of one variant may be loaded on different threads. What runs meanwhile finds what is
    on the other devices at every moment."""

    def __init__(self) -> None:
        super().__init__()
        self._changing = threading.Lock()

    def add(self, key: Key, on: Mapping[str, T]) -> None:
        """It is loaded there as well."""
        with self._changing:
            there = self.get(key, OnDevices({}))
            self[key] = OnDevices({**there.on, **on}, there.failed)

    def drop(self, key: Key, device: str) -> None:
        """It is there no longer."""
        with self._changing:
            there = self.get(key, OnDevices({}))
            left = {each: on for each, on in there.on.items() if each != device}
            if left:
                self[key] = OnDevices(left, there.failed)
            else:
                self.pop(key, None)
