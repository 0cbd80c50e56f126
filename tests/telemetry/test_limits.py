"""What callers make the server keep, as metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from gearshift.core.limits import COUNTED, Limits, Usage
from gearshift.telemetry import LimitCollector


def test_every_limit_has_a_series_from_the_start_and_figures_are_those_of_now():
    usage = Usage(Limits(max_connections=1))
    registry = CollectorRegistry()
    registry.register(LimitCollector(usage, lambda: (3, 4)))
    page = generate_latest(registry).decode()
    for limit in COUNTED:
        assert f'gearshift_limit_reached_total{{limit="{limit}"}} 0.0' in page
    usage.enter("a")
    usage.enter("b")
    usage.reach("max_streams")
    usage.held, usage.queued, usage.unread = 5, 6, 7
    usage.given_up = 8
    page = generate_latest(registry).decode()
    for line in (
        'gearshift_connections{port="grpc"} 1.0',
        'gearshift_connections{port="http"} 3.0',
        'gearshift_connections_refused_total{reason="max_connections"} 1.0',
        'gearshift_connections_refused_total{reason="max_http_connections"} 4.0',
        'gearshift_limit_reached_total{limit="max_streams"} 1.0',
        "gearshift_calls_given_up_total 8.0",
        'gearshift_bytes_held{what="incoming"} 5.0',
        'gearshift_bytes_held{what="waiting"} 6.0',
        'gearshift_bytes_held{what="unread"} 7.0',
    ):
        assert line in page
