"""Drift as metric families, made whenever a page is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gearshift.drift.watch import Drift

MOST_SHOWN = 32
"""Features of a model that have a series each; of more, only greatest and mean are shown."""


class DriftCollector(Collector):
    """`drifts` gives how the inputs of each watched model stand."""

    def __init__(self, drifts: Callable[[], Mapping[str, Drift]]) -> None:
        self._drifts = drifts

    def collect(self) -> Iterator[Metric]:
        by_model = ("model",)
        psi = GaugeMetricFamily(
            "gearshift_input_drift_psi",
            "Population stability index of one feature of the inputs against the held-out samples,"
            " beyond what chance gives.",
            labels=("model", "feature"),
        )
        greatest = GaugeMetricFamily(
            "gearshift_input_drift", "The greatest index of all features.", labels=by_model
        )
        mean = GaugeMetricFamily(
            "gearshift_input_drift_mean", "The mean index of all features.", labels=by_model
        )
        rows = GaugeMetricFamily(
            "gearshift_input_drift_rows", "Rows that were compared.", labels=by_model
        )
        drifted = GaugeMetricFamily(
            "gearshift_input_drifted",
            "1 while inputs have drifted away from the held-out samples.",
            labels=by_model,
        )
        for model, drift in self._drifts().items():
            rows.add_metric((model,), drift.rows)
            if not drift.shifts:
                continue  # too few rows to say anything
            greatest.add_metric((model,), drift.greatest)
            mean.add_metric((model,), drift.mean)
            drifted.add_metric((model,), float(drift.drifted))
            if len(drift.shifts) <= MOST_SHOWN:
                for feature, shift in drift.shifts.items():
                    psi.add_metric((model, feature), shift.psi)
        yield from (psi, greatest, mean, rows, drifted)
