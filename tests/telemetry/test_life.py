"""What a server is: ready, draining since when, serving which catalog."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client import CollectorRegistry

from builders import make_catalog, make_model
from gearshift.core.catalog import Catalog, ServiceClass, Standing
from gearshift.telemetry import Life
from gearshift.telemetry.life import digest


def read(life: Life) -> dict[str, float]:
    return {family.name: family.samples[0].value for family in life.collect()}


def test_starting_serving_draining() -> None:
    now = 100.0
    alive = True
    life = Life(make_catalog(make_model()), 30.0, alive=lambda: alive, clock=lambda: now)
    figures = read(life)
    assert (figures["gearshift_ready"], figures["gearshift_drain_seconds"]) == (0, 0)
    life.serves()
    now = 150.0
    figures = read(life)
    assert life.ready
    assert (figures["gearshift_ready"], figures["gearshift_drain_seconds"]) == (1, 0)
    # Too many runs hang: nothing is answered now, and it may be again.
    for alive in (False, True):
        assert read(life)["gearshift_ready"] == alive
    life.drains()
    now = 162.5
    figures = read(life)
    assert not life.ready
    assert (figures["gearshift_ready"], figures["gearshift_drain_seconds"]) == (0, 12.5)
    assert figures["gearshift_drain_limit_seconds"] == 30


def changed(catalog: Catalog, **changes: object) -> Catalog:
    """The same with another most accurate variant."""
    model = catalog.models["m"]
    best, *others = model.variants
    variants = (replace(best, **changes), *others)  # type: ignore[arg-type]
    return make_catalog(replace(model, variants=variants))


def test_the_digest_is_that_of_what_is_served_and_of_nothing_else() -> None:
    catalog = make_catalog(make_model())
    same = digest(catalog)
    assert digest(make_catalog(make_model())) == same
    assert digest(changed(catalog, artifact="elsewhere/large.bin")) == same
    # Labels decide about a canary at another moment in each pod.
    assert digest(changed(catalog, standing=Standing.WITHDRAWN)) == same
    others = (
        changed(catalog, artifact_sha256="0" * 64),
        changed(catalog, accuracy=0.951),
        changed(catalog, share=0.1),
        make_catalog(make_model(classes=(ServiceClass("default", budget=0.1),))),
        make_catalog(make_model(), make_model("other")),
    )
    assert len({same, *map(digest, others)}) == 1 + len(others)


def test_the_digest_is_on_the_page() -> None:
    catalog = make_catalog(make_model())
    registry = CollectorRegistry()
    registry.register(Life(catalog, 30.0))
    labels = {"digest": digest(catalog)}
    assert registry.get_sample_value("gearshift_catalog_info", labels) == 1
