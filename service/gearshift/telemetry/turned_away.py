"""Who was refused at the door: over a quota, or one retry too many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class TurnedAway(Collector):
    """`over` tells the requests over their quota by client, "" for all that the file does not
    name; `retries` those that were retries in an overload."""

    def __init__(self, over: Callable[[], Mapping[str, int]], retries: Callable[[], int]) -> None:
        self._over = over
        self._retries = retries

    def collect(self) -> Iterator[Metric]:
        quota = CounterMetricFamily(
            "gearshift_quota_refused",
            "Requests over their quota, by client of the quotas file; empty: all others.",
            labels=("client",),
        )
        for client, count in sorted(self._over().items()):
            quota.add_metric((client,), count)
        yield quota
        yield CounterMetricFamily(
            "gearshift_retries_refused",
            "Retries that were refused unread because much was shed.",
            value=self._retries(),
        )
