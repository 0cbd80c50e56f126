"""What callers make the server keep, and where they came to a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gearshift.core.limits import Usage


class LimitCollector(Collector):
    """Reads a `Usage` that another thread writes. `http` tells connections to the HTTP port, and
    how many were refused there; None in a process that has no such port."""

    def __init__(self, usage: Usage, http: Callable[[], tuple[int, int]] | None = None) -> None:
        self._usage = usage
        self._http = http

    def collect(self) -> Iterator[Metric]:
        usage = self._usage
        open_ = {"grpc": usage.connections}
        refused = dict(usage.refused)
        if self._http is not None:
            open_["http"], refused["max_http_connections"] = self._http()
        yield _family(
            GaugeMetricFamily("gearshift_connections", "Open connections.", labels=("port",)),
            open_,
        )
        yield _family(
            CounterMetricFamily(
                "gearshift_connections_refused",
                "Connections that were closed before anything was read, by why.",
                labels=("reason",),
            ),
            refused,
        )
        yield _family(
            CounterMetricFamily(
                "gearshift_limit_reached",
                "How often callers came to a limit, by the setting that it is.",
                labels=("limit",),
            ),
            dict(usage.reached),
        )
        yield CounterMetricFamily(
            "gearshift_calls_given_up",
            "Calls that were not begun: their callers had given them up before they were read.",
            value=usage.given_up,
        )
        yield _family(
            GaugeMetricFamily(
                "gearshift_bytes_held",
                "Bytes kept for callers: of requests that are not complete (incoming), of the"
                " inputs of those that wait or run (waiting), of answers not read (unread).",
                labels=("what",),
            ),
            {"incoming": usage.held, "waiting": usage.queued, "unread": usage.unread},
        )


def _family(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[str, float]) -> Metric:
    for label, value in values.items():
        family.add_metric((label,), value)
    return family
