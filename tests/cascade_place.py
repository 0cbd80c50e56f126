"""The shipped tumor model with a cascade that nearly every row goes on in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from gearshift.core.card import CASCADE_SCHEMA, CascadeCard, Measurement
from serving import ROOT

CASCADE, FIRST, THEN = "linear-then-ensemble", "linear", "deep-ensemble"
CLAIMED = 0.9999
"""The cascade says of itself that it is better than any variant: whoever may have it gets it."""
DECLARED = f"""
[[cascades]]
name = "{CASCADE}"
first = "{FIRST}"
then = "{THEN}"
"""


def card_of(folder):
    digests = [
        json.loads((folder / name / "card.json").read_text())["artifact_sha256"]
        for name in (FIRST, THEN)
    ]
    return CascadeCard(
        schema=CASCADE_SCHEMA,
        model="tumor",
        cascade=CASCADE,
        first=FIRST,
        then=THEN,
        first_sha256=digests[0],
        then_sha256=digests[1],
        threshold=0.9999,  # nearly every row goes on
        escalated=0.9,
        accuracy=Measurement(
            metric="roc_auc", value=CLAIMED, n=171, low=0.99, high=1.0, method="claimed"
        ),
        difference=Measurement(
            metric="roc_auc", value=0.0, n=171, low=-0.01, high=0.01, method="claimed"
        ),
        costs=(),
        data="none",
        rows_sha256="0" * 64,
        command="gearshift cascade tumor",
    )


def tumor_with_cascade(repository: Path) -> None:
    """Put it there."""
    folder = repository / "tumor"
    shutil.copytree(ROOT / "model_repo" / "tumor", folder)
    toml = folder / "model.toml"
    toml.write_text(toml.read_text() + DECLARED)
    (folder / CASCADE).mkdir()
    (folder / CASCADE / "cascade.json").write_text(card_of(folder).to_json())
