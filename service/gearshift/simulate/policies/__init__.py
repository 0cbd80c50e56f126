"""Policies by name: the core as served, and baselines from the literature.

`most-accurate`, `fastest`, `slackfit` and `gearshift` hold every variant on every worker;
`infaas` and `proteus` hold one variant a worker, as their papers do, and change it at no
cost in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from gearshift.errors import ConfigurationInvalid
from gearshift.simulate.extra import need
from gearshift.simulate.policies.fastest import Fastest
from gearshift.simulate.policies.gearshift import gearshift_policy
from gearshift.simulate.policies.infaas import Infaas
from gearshift.simulate.policies.most_accurate import MostAccurate
from gearshift.simulate.policies.proteus import Proteus
from gearshift.simulate.policies.slackfit import SlackFit
from gearshift.simulate.policy import PolicyFactory

POLICIES: Mapping[str, PolicyFactory] = MappingProxyType(
    {
        "gearshift": gearshift_policy,
        "most-accurate": MostAccurate,
        "fastest": Fastest,
        "infaas": Infaas,
        "slackfit": SlackFit,
        "proteus": Proteus,
        "proteus-1s": partial(Proteus, period=1.0, headroom=1.2),
    }
)

SOLVING = frozenset({"proteus", "proteus-1s"})
"""Those that need SciPy."""


def find_policy(name: str, on_time_bonus: float = 0.0) -> PolicyFactory:
    """The policy of that name; ConfigurationInvalid naming those that exist, or the extra
    that it needs. `on_time_bonus` is the setting of the core as served; baselines have none."""
    factory = POLICIES.get(name)
    if factory is None:
        raise ConfigurationInvalid(
            f"--policy {name}: there is no such policy; choose one of {', '.join(POLICIES)}"
        )
    if name in SOLVING:
        need("scipy", f"the policy {name}")
    return partial(gearshift_policy, bonus=on_time_bonus) if name == "gearshift" else factory
