"""A pod as the scheduler in it sees it: its models, their profiles on it, its workers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from gearshift.core.cascade import Together, with_cascades
from gearshift.core.catalog import Catalog
from gearshift.core.profile import Profile, Profiles
from gearshift.simulate.planning.kinds import Kind

VariantName = tuple[str, str]
"""Model and variant."""

Placing = Callable[[Catalog, Profiles, Mapping[int, str]], tuple[Profiles, Mapping[int, str]]]
"""Where the server runs short batches: the profiles and workers (id to device) with an express
worker among them."""


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of a kind. `memory` is what each variant takes loaded, in megabytes, and `server`
    what the server takes without any; variants of which nothing is known take nothing."""

    kind: Kind
    catalog: Catalog
    profiles: Profiles
    workers: Mapping[int, str]
    memory: Mapping[VariantName, float]
    server: float

    def gears(self, model: str) -> tuple[Profile, ...]:
        """Every way to answer for `model` that the server may choose, cascades too."""
        found = self.profiles.everywhere(model)
        return tuple(p for p in with_cascades(self.catalog.models[model], found) if p.serving)

    @property
    def variants(self) -> tuple[VariantName, ...]:
        """Those that can run here, model by model, the most accurate first."""
        return tuple(
            dict.fromkeys(
                (name, profile.variant.name)
                for name in self.catalog.models
                for profile in sorted(
                    self.profiles.everywhere(name), key=lambda p: -p.variant.accuracy
                )
            )
        )

    @property
    def needed(self) -> float:
        """Megabytes with everything loaded."""
        return self.server + sum(self.memory.get(variant, 0.0) for variant in self.variants)

    def with_models(self, models: Collection[str]) -> Pod:
        """The same pod for these models only."""
        return self.without(
            {(name, variant) for name, variant in self.variants if name not in models}, models
        )

    def without(
        self, left_out: Collection[VariantName], models: Collection[str] | None = None
    ) -> Pod:
        """The same pod with those variants not loaded, nor any cascade that needs one of them."""
        names = self.catalog.models if models is None else models
        kept = {}
        for name in self.catalog.models:
            if name not in names:
                continue
            model = self.catalog.models[name]
            there = {v.name for v in model.variants if (name, v.name) not in left_out}
            kept[name] = replace(
                model,
                variants=tuple(v for v in model.variants if v.name in there),
                cascades=tuple(c for c in model.cascades if {c.first, c.then} <= there),
            )
        profiles = [
            profile
            for name in kept
            for profile in self.profiles.everywhere(name)
            if (name, profile.variant.name) not in left_out
        ]
        return replace(
            self,
            catalog=Catalog(self.catalog.generation, kept),
            profiles=Profiles(kept, profiles),
        )


def parts(gear: Profile) -> tuple[str, ...]:
    """The names of the variants that answer in this gear."""
    if isinstance(gear, Together):
        return gear.cascade.first, gear.cascade.then
    return (gear.variant.name,)
