"""Metrics pages as bytes, in the format that is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

END = b"# EOF\n"
"""How an OpenMetrics page ends."""


def is_openmetrics(accept: str) -> bool:
    """Whether who sends this Accept header gets OpenMetrics."""
    return "openmetrics" in choose_encoder(accept)[1]


def exposed(families: Iterable[Metric], accept: str = "") -> tuple[bytes, str]:
    """The page that these families make and its content type: OpenMetrics 1.0 where `accept`, an
    HTTP Accept header, has it, else Prometheus's own text format.

    Between two families other threads get their turn: whoever serves must not wait for a whole
    page.
    """
    encode, content_type = choose_encoder(accept)
    openmetrics = is_openmetrics(accept)
    parts = []
    for family in families:
        part = encode(_Fixed(_strict(family) if openmetrics else family))
        parts.append(part.removesuffix(END) if openmetrics else part)
        time.sleep(0)
    if openmetrics:
        parts.append(END)
    return b"".join(parts), content_type


def _strict(family: Metric) -> Metric:
    """As OpenMetrics wants it: a histogram without a sum, which may have negative buckets, has no
    count either; the bucket `+Inf` says it (specification, section "Histogram")."""
    total = f"{family.name}_sum"
    if family.type != "histogram" or any(sample.name == total for sample in family.samples):
        return family
    count = f"{family.name}_count"
    made = Metric(family.name, family.documentation, family.type)
    made.samples = [sample for sample in family.samples if sample.name != count]
    return made


class _Fixed(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family
