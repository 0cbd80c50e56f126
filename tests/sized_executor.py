"""A fake executor on two devices that counts what lies on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from builders import ONE_VECTOR
from gearshift.core.catalog import Model, Variant
from gearshift.executors.fake import FakeExecutor
from gearshift.executors.key import Key, key, not_loaded
from gearshift.ports import Placed

MIB = 2**20


class SizedExecutor(FakeExecutor):
    """`sizes` are MiB by variant. `loads` tells what was loaded, `most` the bytes that lay on each
    device at the same time. What is in `fails` does not load."""

    def __init__(self, sizes: Mapping[str, float], devices: tuple[str, ...] = ("cpu",)) -> None:
        super().__init__(ONE_VECTOR, lambda variant, rows: 0.0)
        self.sizes = sizes
        self._devices = devices
        self.on: dict[str, set[Key]] = {device: set() for device in devices}
        self.loads: list[tuple[str, str]] = []
        self.most = dict.fromkeys(devices, 0.0)
        self.fails: set[str] = set()

    @property
    def devices(self) -> tuple[str, ...]:
        return self._devices

    def load(self, model: Model, variant: Variant) -> None:
        for device in self._devices:
            self.load_on(model, variant, device)

    def unload(self, model: Model, variant: Variant) -> None:
        for device in self._devices:
            self.unload_from(model, variant, device)

    def load_on(self, model: Model, variant: Variant, device: str) -> None:
        if variant.name in self.fails:
            raise ValueError(f"{variant.name} is broken")
        self.on[device].add(key(model, variant))
        self.loads.append((variant.name, device))
        used = sum(self.sizes[name] for _, name, _ in self.on[device]) * MIB
        self.most[device] = max(self.most[device], used)

    def unload_from(self, model: Model, variant: Variant, device: str) -> None:
        self.on[device].discard(key(model, variant))

    def placed(self, model: Model, variant: Variant) -> Sequence[Placed]:
        size = int(self.sizes[variant.name] * MIB)
        return [
            Placed(device, "fake", size)
            for device in self._devices
            if key(model, variant) in self.on[device]
        ]

    def run_here(self, model, variant, inputs):
        if not any(key(model, variant) in on for on in self.on.values()):
            raise not_loaded(model, variant)
        self._loaded.add(key(model, variant))
        return super().run_here(model, variant, inputs)

    def held(self, device: str = "cpu") -> list[tuple[str, int]]:
        """Variants and generations that lie there."""
        return sorted((name, generation) for _, name, generation in self.on[device])
