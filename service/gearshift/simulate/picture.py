"""A comparison as a picture: attainment against served accuracy.

Up is a better variant, right is more requests in time; a policy that is above and to the
right of another is better at everything. The attainment axis is stretched towards 100 %,
where the differences that matter are. Dashed curves are what the bound allows: no policy
can be beyond the one of its load.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from gearshift.simulate.compare import Comparison
from gearshift.simulate.result import Result

MARKERS = "*osD^vPXhp<>d8"
"""One a policy."""

FINEST = 5e-4
"""Violations below this share are told apart on a linear scale, above it on a logarithmic one."""

TICKS = (0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 0.6)
"""Violations at which the axis has a tick."""


def draw(comparison: Comparison, title: str) -> bytes:
    """The picture as PNG; needs Matplotlib."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    results = comparison.results
    policies = list(dict.fromkeys(result.conditions.policy for result in results))
    loads = list(dict.fromkeys(result.conditions.speed_up for result in results))
    palette = colormaps["viridis"](np.linspace(0.0, 0.88, len(loads)))
    colours = {load: tuple(palette[number]) for number, load in enumerate(loads)}
    markers = {policy: MARKERS[number % len(MARKERS)] for number, policy in enumerate(policies)}
    # Each a little smaller than the one drawn before it: who does equally well stays visible.
    sizes = dict(zip(policies, np.linspace(15, 8, len(policies)).tolist(), strict=True))
    points = [
        (policy, load, *_means(results, policy, load))
        for policy in policies
        for load in loads
        if _means(results, policy, load)[1] > 0
    ]
    figure = Figure(figsize=(10.5, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for policy in policies:
        path = [(1 - attained, served) for name, _, attained, served in points if name == policy]
        axes.plot(*zip(*path, strict=True), color="0.82", linewidth=0.8, zorder=1.5)
    for policy, load, attained, served in points:
        leading = policy == "gearshift"
        axes.plot(
            1 - attained,
            served,
            marker=markers[policy],
            markersize=sizes[policy],
            markeredgewidth=0.7,
            markeredgecolor="black" if leading else "white",
            color=colours[load],
            linestyle="none",
            zorder=3,
            clip_on=False,
        )
    low = min((served for *_, served in points), default=0.0)
    high = max((served for *_, served in points), default=1.0)
    margin = max(high - low, 1e-3 * high, 1e-9)
    axes.set_ylim(low - 0.08 * margin, high + 0.08 * margin)
    furthest = max((1 - attained for *_, attained, _ in points), default=0.0)
    limit = next((tick for tick in TICKS if tick > max(furthest, 0.01)), 1.0)
    axes.set_xscale("symlog", linthresh=FINEST, linscale=0.4)
    axes.set_xlim(limit, -FINEST / 3)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in TICKS if tick <= limit]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * (1 - x):g} %"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("answered in time, share of all requests (stretched towards 100 %)")
    axes.set_ylabel("mean accuracy of what was answered in time")
    axes.set_title(title)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    missed = np.concatenate([np.linspace(0, FINEST, 20), np.geomspace(FINEST, limit, 200)])
    for load, bound in comparison.bounds.items():
        served = bound.effective_accuracy / (1 - np.minimum(missed, 0.999))
        axes.plot(missed, served, color=colours[load], linestyle="--", linewidth=1, zorder=2)
    by_policy = [
        Line2D(
            [],
            [],
            marker=markers[policy],
            color="0.35",
            linestyle="none",
            markersize=9,
            label=policy,
        )
        for policy in policies
    ]
    by_load = [
        Line2D([], [], marker="s", color=colours[load], linestyle="none", label=f"{load:g}x")
        for load in loads
    ]
    if comparison.bounds:
        by_load.append(Line2D([], [], color="0.35", linestyle="--", label="upper bound"))
    figure.legend(
        handles=by_policy,
        title="policy",
        loc="outside right upper",
        frameon=False,
        alignment="left",
    )
    figure.legend(
        handles=by_load, title="load", loc="outside right lower", frameon=False, alignment="left"
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def _means(results: Sequence[Result], policy: str, load: float) -> tuple[float, float]:
    """Attainment and served accuracy over seeds; 0 for the latter if nothing was served."""
    chosen = [
        result.total
        for result in results
        if result.conditions.policy == policy and result.conditions.speed_up == load
    ]
    attained = sum(figures.attainment for figures in chosen) / len(chosen)
    gained = sum(figures.effective_accuracy for figures in chosen) / len(chosen)
    return attained, gained / attained if attained else 0.0
