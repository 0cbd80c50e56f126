"""All dashboards as the files that Grafana loads."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.dashboards import cost, on_call, tradeoff, variants

HOME = Path(__file__).parents[1] / "chart" / "files" / "dashboards"
"""Where they are committed: the chart makes ConfigMaps of them."""

MAKERS = {
    "tradeoff.json": tradeoff.made,
    "on-call.json": on_call.made,
    "variants.json": variants.made,
    "cost.json": cost.made,
}


def texts() -> dict[str, str]:
    """The JSON of each by its file's name."""
    return {
        name: json.dumps(made(), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"
        for name, made in MAKERS.items()
    }
