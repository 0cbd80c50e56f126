"""Where variants lie, and where they could not be placed as was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gearshift.core.catalog import Model, Variant
from gearshift.ports import Placed


class PlacedCollector(Collector):
    """Asks `placed` whenever a page is made, on whichever thread."""

    def __init__(self, placed: Callable[[], Iterable[tuple[Model, Variant, Placed]]]) -> None:
        self._placed = placed

    def collect(self) -> Iterator[Metric]:
        resident = GaugeMetricFamily(
            "gearshift_variant_resident_bytes",
            "Bytes that a variant keeps on a device, as far as is known: of ONNX Runtime its"
            " artifact and the tensors bound there, of PyTorch its tensors and what its CUDA graphs"
            " keep.",
            labels=("model", "variant", "device"),
        )
        fallback = GaugeMetricFamily(
            "gearshift_provider_fallback",
            "1 where a provider that was asked for does not run the variant on the device, 0 for"
            " the one that does.",
            labels=("model", "variant", "provider", "device"),
        )
        for model, variant, each in self._placed():
            names = model.name, variant.name
            if each.runs:
                if each.size:
                    resident.add_metric((*names, each.device), each.size)
                fallback.add_metric((*names, each.runs, each.device), 0.0)
            for provider in each.lacking:
                fallback.add_metric((*names, provider, each.device), 1.0)
        yield from (resident, fallback)
