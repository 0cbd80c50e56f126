"""How many requests there were: `gearshift_requests_total` as rates by model and class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gearshift.prometheus.query import MOST_POINTS, PrometheusFailed, query_range

UNPLANNED = ("invalid", "infeasible")
"""Outcomes of requests that no number of pods answers."""


@dataclass(frozen=True, slots=True)
class History:
    """Requests a second by model and service class, one value for each of `times` (seconds since
    the epoch): the mean over the window that ends then. Without a sample it is 0."""

    times: tuple[float, ...]
    rates: Mapping[tuple[str, str], npt.NDArray[np.float64]]


def request_rates(
    url: str, *, window: float, over: float, now: float, timeout: float, selector: str = ""
) -> History:
    """The rates of the last `over` seconds before `now`, in windows of `window` seconds.

    `selector` are more label matchers, as in `namespace="prod"`. Rates are summed over pods.
    Raises PrometheusFailed, also where there is nothing.
    """
    if over < window:
        raise PrometheusFailed(f"--over {over:g} s is shorter than the --window of {window:g} s")
    if over / window > MOST_POINTS:
        raise PrometheusFailed(
            f"--window {window:g}s over {over:g} s are {over / window:.0f} windows, and Prometheus"
            f" gives {MOST_POINTS} at the most; take a --window of {math.ceil(over / MOST_POINTS)}s"
        )
    matchers = ", ".join(filter(None, (f'outcome!~"{"|".join(UNPLANNED)}"', selector)))
    query = (
        "sum by (model, service_class)"
        f" (rate(gearshift_requests_total{{{matchers}}}[{window * 1e3:.0f}ms]))"
    )
    found = query_range(url, query, now - over + window, now, window, timeout)
    times = tuple(sorted({at for series in found for at in series.values}))
    rates = {}
    for series in found:
        pair = (series.labels.get("model", ""), series.labels.get("service_class", ""))
        values = np.array([series.values.get(at, 0.0) for at in times])
        if values.any():
            rates[pair] = values
    if not rates:
        raise PrometheusFailed(
            f"--prometheus {url}: there was no request in the last {over:g} s ({query}); is"
            f" gearshift scraped, and for long enough?"
        )
    return History(times, rates)
