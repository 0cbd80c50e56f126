"""The tables that the commands print."""

from __future__ import annotations

from rich.table import Table

from gearshift.core.catalog import Catalog, Variant
from gearshift.core.profile import Profile, Profiles


def models_table(catalog: Catalog, profiles: Profiles) -> Table:
    """Every variant: accuracy with its interval, p99 for one row, artifact size; and what the
    cascades of the model reach."""
    table = Table(title="Models, most accurate variant first, then cascades")
    for heading in ("model", "variant"):
        table.add_column(heading)
    table.add_column("version", justify="right")
    for heading in ("metric", "accuracy (95 % interval, n)"):
        table.add_column(heading)
    table.add_column("p99, 1 row", justify="right")
    table.add_column("size", justify="right")
    for model in catalog.models.values():
        latency = {p.variant.name: p for p in profiles.everywhere(model.name)}
        for position, variant in enumerate(model.variants):
            table.add_row(
                model.name if position == 0 else "",
                variant.name,
                str(variant.version),
                model.metric,
                _accuracy(variant),
                _seconds(latency[variant.name].p99(1)) if variant.name in latency else "-",
                _bytes(variant.artifact_bytes),
            )
        for cascade in model.cascades:
            table.add_row(
                "",
                cascade.name,
                "",
                model.metric,
                f"{cascade.accuracy:.4f} ({cascade.first}; {cascade.escalated:.1%} go on to"
                f" {cascade.then})",
                "",
                "",
            )
        table.add_section()
    return table


def profiles_table(catalog: Catalog, profiles: Profiles) -> Table:
    """Every variant's p50 and p99 at the measured batch sizes."""
    every = [p for name in catalog.models for p in profiles.everywhere(name)]
    batches = sorted({point.batch for profile in every for point in profile.points})
    table = Table(title="p50 / p99 in milliseconds, by rows in a batch")
    table.add_column("model")
    table.add_column("variant")
    table.add_column("device")
    for batch in batches:
        table.add_column(str(batch), justify="right")
    table.add_column("efficient", justify="right")
    for name in catalog.models:
        rows = profiles.everywhere(name)
        for position, profile in enumerate(rows):
            table.add_row(
                name if position == 0 else "",
                profile.variant.name,
                profile.device,
                *_cells(profile, batches),
                str(profile.efficient_batch),
                end_section=position == len(rows) - 1,
            )
    return table


def _cells(profile: Profile, batches: list[int]) -> list[str]:
    points = {point.batch: point for point in profile.points}
    return [
        f"{points[b].p50 * 1e3:.3g} / {points[b].p99 * 1e3:.3g}" if b in points else ""
        for b in batches
    ]


def _accuracy(variant: Variant) -> str:
    if variant.card is None:
        return f"{variant.accuracy:.4f} (declared)"
    measured = variant.card.accuracy
    return f"{measured.value:.4f} ({measured.low:.4f} to {measured.high:.4f}, n {measured.n})"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def _bytes(size: int) -> str:
    if size >= 1_000_000:
        return f"{size / 1e6:.1f} MB"
    return f"{size / 1e3:.1f} kB"
