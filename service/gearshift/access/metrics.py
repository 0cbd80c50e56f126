"""What /metrics says of access."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gearshift.access.audit import AuditLog
from gearshift.access.tls import Tls


class AccessMetrics(Collector):
    """Read on any thread."""

    def __init__(self, audit: AuditLog, tls: Tls | None) -> None:
        self._audit = audit
        self._tls = tls

    def collect(self) -> Iterator[Metric]:
        denied = CounterMetricFamily(
            "gearshift_denied",
            "Calls that were turned away, because nobody knows their client or because it may not"
            " make them.",
            labels=("reason",),
        )
        for reason, count in self._audit.denials.items():
            denied.add_metric((reason,), count)
        yield denied
        if self._tls is not None:
            yield GaugeMetricFamily(
                "gearshift_certificate_expiry_timestamp_seconds",
                "When the server's certificate expires, in seconds since 1970.",
                value=self._tls.expiry,
            )
