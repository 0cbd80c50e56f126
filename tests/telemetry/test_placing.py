"""What the metrics say of where variants lie."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from builders import make_model
from gearshift.ports import Placed
from gearshift.telemetry import Past, PlacedCollector, merged

MODEL = make_model()
VARIANT = MODEL.variants[0]

PLACED = [
    Placed("gpu0", "cuda", 100, ("tensorrt",)),
    Placed("gpu1", lacking=("tensorrt", "cuda")),
    Placed("remote", "remote"),
]


def page(placed) -> bytes:
    registry = CollectorRegistry()
    registry.register(PlacedCollector(lambda: ((MODEL, VARIANT, each) for each in placed)))
    return generate_latest(registry)


def lines(text: bytes) -> list[str]:
    return [line for line in text.decode().splitlines() if not line.startswith("#")]


def test_bytes_where_it_lies_and_what_was_asked_for_in_vain():
    names = f'model="{MODEL.name}",provider="%s",variant="{VARIANT.name}"'
    where = f'model="{MODEL.name}",variant="{VARIANT.name}"'
    assert lines(page(PLACED)) == [
        f'gearshift_variant_resident_bytes{{device="gpu0",{where}}} 100.0',
        *(
            f'gearshift_provider_fallback{{device="{device}",{names % provider}}} {value}'
            for device, provider, value in (
                ("gpu0", "cuda", 0.0),
                ("gpu0", "tensorrt", 1.0),
                ("gpu1", "tensorrt", 1.0),
                ("gpu1", "cuda", 1.0),
                ("remote", "remote", 0.0),
            )
        ),
    ]


def test_of_several_processes_bytes_are_added_and_one_that_fell_back_is_news():
    pages = [page([Placed("gpu0", "cuda", 100)]), page(PLACED)]
    families = {each.name: each for each in merged(pages, Past())}
    (size,) = families["gearshift_variant_resident_bytes"].samples
    assert size.value == 200.0
    found = {
        (each.labels["provider"], each.labels["device"]): each.value
        for each in families["gearshift_provider_fallback"].samples
    }
    assert found["tensorrt", "gpu0"] == found["cuda", "gpu1"] == 1.0
    assert found["cuda", "gpu0"] == 0.0
