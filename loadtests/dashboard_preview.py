"""Pictures of the dashboards with data, for people who have no Grafana at hand.

    PYTHONPATH=tests python -m loadtests.dashboard_preview

A real server, real traffic, a real Prometheus; the layout, queries, units and thresholds are those
of the JSON that Grafana loads. But it is drawn by matplotlib: in Grafana colours, fonts and legends
differ, tables can be sorted, and what is hovered over says more. Power is made up where the
machine that makes the pictures does not report it.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import textwrap
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from deploy.dashboards.texts import texts
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FuncFormatter

from dashboard_scene import BESIDE, Scene, drive, scene

SECONDS = 60.0
"""Of traffic before anything is drawn."""

COLUMN, UNIT = 0.72, 0.36
"""Inches of one column and of one unit of height in Grafana's grid."""

PALETTE = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#b877d9", "#8ab8ff", "#f2495c", "#96d98d"]
PALETTE += ["#37872d", "#fade2a", "#1f60c4", "#fa6400", "#8f3bb8", "#c0d8ff", "#c4162a", "#56a64b"]
NAMED = {
    "green": "#73bf69",
    "yellow": "#fade2a",
    "orange": "#ff9830",
    "red": "#f2495c",
    "blue": "#5794f2",
    "text": "#ccccdc",
}
BACK, CARD, EDGE, INK, FAINT = "#111217", "#181b1f", "#2c3235", "#ccccdc", "#8e8e99"


def told(value: float, unit: str, decimals: int | None) -> str:
    """A value as Grafana would write it, nearly."""
    if math.isnan(value):
        return "-"
    if unit == "percentunit":
        return f"{100 * value:.{1 if decimals is None else decimals}f} %"
    if unit == "s":
        for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
            if abs(value) * factor >= 1 or factor == 1e6:
                return f"{value * factor:.3g} {name}"
    if unit == "bytes":
        for factor, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
            if abs(value) >= factor:
                return f"{value / factor:.3g} {name}"
        return f"{value:.0f} B"
    if unit == "dateTimeAsIso":
        return datetime.fromtimestamp(value / 1e3, UTC).strftime("%Y-%m-%d %H:%M:%S")
    suffix = {"reqps": " req/s", "watt": " W", "joule": " J"}.get(unit, "")
    return (f"{value:.{decimals}f}" if decimals is not None else f"{value:.3g}") + suffix


def tint(value: float, config: dict[str, Any]) -> str:
    """The colour that thresholds give a value."""
    color = INK
    for step in config.get("thresholds", {}).get("steps", ()):
        if step["value"] is None or value >= step["value"]:
            color = NAMED.get(step["color"], INK)
    return color


def named(pattern: str, labels: dict[str, str]) -> str:
    for label in labels:
        pattern = pattern.replace("{{" + label + "}}", labels[label])
    while "{{" in pattern:
        before, _, rest = pattern.partition("{{")
        pattern = before + rest.partition("}}")[2]
    return " ".join(pattern.split()) or "all"


def word(config: dict[str, Any], value: float) -> tuple[str, str] | None:
    for mapping in config.get("mappings", ()):
        found = mapping["options"].get(f"{value:.0f}")
        if found:
            return found["text"], NAMED.get(found["color"], INK)
    return None


class Drawer:
    """One dashboard on one figure."""

    def __init__(self, made: dict[str, Any], place: Scene, since: float, until: float) -> None:
        self.made, self.place, self.since, self.until = made, place, since, until
        panels = made["panels"]
        self.height = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels) + 2
        self.figure = plt.figure(figsize=(24 * COLUMN, self.height * UNIT), facecolor=BACK)

    def draw(self) -> Any:
        self._text(0.2, -1.0, self.made["title"], 17, INK, weight="bold")
        self._text(0.2, -0.2, self.made["description"] + "   (a preview, not Grafana)", 9, FAINT)
        for panel in self.made["panels"]:
            place = panel["gridPos"]
            if panel["type"] == "row":
                self._text(0.2, place["y"] + 0.7, "⌄ " + panel["title"], 11, INK, weight="bold")
                continue
            self._card(panel)
        return self.figure

    def _text(self, x: float, y: float, text: str, size: float, color: str, **more: Any) -> None:
        up = 1 - (y + 2) / self.height
        self.figure.text(x / 24, up, text, fontsize=size, color=color, va="center", **more)

    def _axes(self, place: dict[str, int], inside: tuple[float, float, float, float]) -> Any:
        """Axes in a panel; `inside` are the margins left, top, right, bottom in grid units."""
        left, top, right, bottom = inside
        x, width = (place["x"] + left) / 24, (place["w"] - left - right) / 24
        low = 1 - (place["y"] + place["h"] - bottom + 2) / self.height
        height = (place["h"] - top - bottom) / self.height
        return self.figure.add_axes((x, low, width, height), facecolor=CARD)

    def _card(self, panel: dict[str, Any]) -> None:
        place = panel["gridPos"]
        box = self._axes(place, (0.06, 0.08, 0.06, 0.08))
        box.set_xticks([])
        box.set_yticks([])
        for spine in box.spines.values():
            spine.set_color(EDGE)
        width = int(place["w"] * 8.5)
        title = textwrap.shorten(panel["title"], width, placeholder="…")
        self._text(place["x"] + 0.2, place["y"] + 0.6, title, 9, INK, weight="bold")
        kind = {
            "stat": self._stat,
            "table": self._table,
            "timeseries": self._lines,
            "state-timeline": self._states,
            "xychart": self._dots,
        }[panel["type"]]
        kind(panel, place)

    # --- kinds of panels ---------------------------------------------------------------

    def _stat(self, panel: dict[str, Any], place: dict[str, int]) -> None:
        config = panel["fieldConfig"]["defaults"]
        found = [
            (named(target.get("legendFormat", ""), series["metric"]), float(series["value"][1]))
            for target in panel["targets"]
            for series in self.place.now(target["expr"], self.until)
        ]
        step = (place["h"] - 1.2) / max(len(found), 1)
        for index, (name, value) in enumerate(found):
            y = place["y"] + 1.1 + step * (index + 0.5)
            text = told(value, config["unit"], config.get("decimals"))
            size = min(20, 30 / len(found))
            self._text(place["x"] + place["w"] / 2, y, text, size, tint(value, config), ha="center")
            if len(found) > 1 or name != "all":
                self._text(place["x"] + 0.3, y, name, 8, FAINT)
        if not found:
            self._nothing(place)

    def _ranges(self, panel: dict[str, Any]) -> list[tuple[str, list[float], list[float]]]:
        step = max((self.until - self.since) / 120, 1)
        found = []
        for target in panel["targets"]:
            asked = self.place.filled(target["expr"])
            answer = self.place.ask(
                "query_range", query=asked, start=self.since, end=self.until, step=step
            )
            for series in answer["result"]:
                times = [point[0] for point in series["values"]]
                values = [float(point[1]) for point in series["values"]]
                name = named(target.get("legendFormat", ""), series["metric"])
                found.append((name, times, values))
        return found

    def _lines(self, panel: dict[str, Any], place: dict[str, int]) -> None:
        config = panel["fieldConfig"]["defaults"]
        series = self._ranges(panel)
        below = min(1 + 0.55 * math.ceil(len(series) / max(place["w"] // 4, 1)), 3.6)
        axes = self._axes(place, (1.1, 1.2, 0.3, 0.9 + below))
        self._style(axes, config["unit"], config.get("decimals"))
        stacking = config["custom"]["stacking"]["mode"]
        if stacking != "none" and series:
            times = sorted({moment for _, each, _ in series for moment in each})
            values = []
            for _, own, points in series:
                at = dict(zip(own, points, strict=True))
                values.append([max(at.get(moment, 0.0), 0.0) for moment in times])
            if stacking == "percent":
                sums = [sum(column) or 1.0 for column in zip(*values, strict=True)]
                values = [
                    [value / whole for value, whole in zip(line, sums, strict=True)]
                    for line in values
                ]
            axes.stackplot(
                [datetime.fromtimestamp(moment, UTC) for moment in times],
                values,
                colors=[PALETTE[index % len(PALETTE)] for index in range(len(values))],
                alpha=0.65,
                labels=[name for name, _, _ in series],
            )
        else:
            for index, (name, times, points) in enumerate(series):
                moments = [datetime.fromtimestamp(moment, UTC) for moment in times]
                color = PALETTE[index % len(PALETTE)]
                axes.plot(moments, points, color=color, linewidth=1.2, label=name)
            bottom, top = axes.get_ylim()
            for each in config["thresholds"]["steps"][1:]:
                if bottom <= each["value"] <= top:
                    color = NAMED.get(each["color"], INK)
                    axes.axhline(each["value"], color=color, linestyle="--", linewidth=0.8)
        if series:
            axes.legend(
                loc="upper left",
                bbox_to_anchor=(-0.05, -0.9 / (place["h"] - 3)),
                ncols=max(place["w"] // 4, 1),
                fontsize=6.5,
                frameon=False,
                labelcolor=INK,
                handlelength=1,
                columnspacing=1,
            )
        else:
            self._nothing(place)

    def _states(self, panel: dict[str, Any], place: dict[str, int]) -> None:
        config = panel["fieldConfig"]["defaults"]
        series = self._ranges(panel)
        if not series:
            self._nothing(place)
            return
        axes = self._axes(place, (place["w"] / 4, 1.2, 0.3, 0.9))
        self._style(axes, "none", 0)
        for index, (_, times, values) in enumerate(series):
            step = times[1] - times[0] if len(times) > 1 else 1.0
            for moment, value in zip(times, values, strict=True):
                _, color = word(config, value) or ("", FAINT)
                start = datetime.fromtimestamp(moment, UTC)
                axes.barh(index, width=step / 86_400, left=start, height=0.8, color=color)
            text, _ = word(config, values[-1]) or (f"{values[-1]:g}", FAINT)
            axes.text(
                0.99,
                index,
                text,
                fontsize=7,
                color="#111217",
                ha="right",
                va="center",
                transform=axes.get_yaxis_transform(),
            )
        shown = [textwrap.shorten(name, 45, placeholder="…") for name, _, _ in series]
        axes.set_yticks(range(len(series)), shown, fontsize=7, color=INK)
        axes.grid(visible=False)

    def _frame(self, panel: dict[str, Any]) -> tuple[list[str], list[dict[str, Any]]]:
        """Headings and rows, as `merge` and `organize` would make them."""
        renamed = panel["transformations"][1]["options"]["renameByName"]
        labels = [label for label in renamed if not label.startswith("Value")]
        rows: dict[tuple[str, ...], dict[str, Any]] = {}
        for target in panel["targets"]:
            value = "Value" if len(panel["targets"]) == 1 else f"Value #{target['refId']}"
            for series in self.place.now(target["expr"], self.until):
                key = tuple(series["metric"].get(label, "") for label in labels)
                row = rows.setdefault(
                    key, {renamed[each]: text for each, text in zip(labels, key, strict=True)}
                )
                row[renamed[value]] = float(series["value"][1])
        return list(renamed.values()), list(rows.values())

    def _table(self, panel: dict[str, Any], place: dict[str, int]) -> None:
        headings, rows = self._frame(panel)
        sort = panel["options"]["sortBy"][0]["displayName"]
        rows.sort(key=lambda row: -row.get(sort, -math.inf))
        headings = [each for each in headings if any(row.get(each, "") != "" for row in rows)]
        if not rows:
            self._nothing(place)
            return
        configs = {
            override["matcher"]["options"]: {
                each["id"]: each["value"] for each in override["properties"]
            }
            for override in panel["fieldConfig"]["overrides"]
        }
        step = (place["w"] - 0.4) / len(headings)
        for column, heading in enumerate(headings):
            x = place["x"] + 0.3 + step * column
            room = max(int(step * 9), 4)
            short = textwrap.shorten(heading, room, placeholder="…")
            self._text(x, place["y"] + 1.5, short, 7.5, "#6e9fff", weight="bold")
            for line, row in enumerate(rows[: int((place["h"] - 2) / 0.75)]):
                value, color = row.get(heading, ""), INK
                if isinstance(value, float):
                    config = configs.get(heading, {})
                    mapped = word(config, value)
                    if mapped:
                        value, color = mapped
                    else:
                        color = tint(value, config)
                        value = told(value, config.get("unit", "none"), config.get("decimals"))
                text = str(value)[: room + 4]
                self._text(x, place["y"] + 2.3 + 0.75 * line, text, 7.5, color)

    def _dots(self, panel: dict[str, Any], place: dict[str, int]) -> None:
        headings, rows = self._frame(panel)
        x, y, size = headings[-3:]
        overrides = {
            each["matcher"]["options"]: {p["id"]: p["value"] for p in each["properties"]}
            for each in panel["fieldConfig"]["overrides"]
        }
        config = panel["fieldConfig"]["defaults"]
        axes = self._axes(place, (1.5, 1.3, 0.5, 1.7))
        self._style(axes, config["unit"], config.get("decimals"), over_time=False)
        if "custom.scaleDistribution" in overrides[x]:
            axes.set_xscale("log")
        unit, decimals = overrides[x]["unit"], overrides[x].get("decimals")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: told(value, unit, decimals)))
        axes.xaxis.set_minor_formatter("")
        greatest = max((row.get(size, 0.0) for row in rows), default=1.0) or 1.0
        for index, row in enumerate(rows):
            if x not in row or y not in row:
                continue
            area = 40 + 900 * row.get(size, 0.0) / greatest
            color = PALETTE[index % len(PALETTE)]
            axes.scatter(row[x], row[y], s=area, color=color, alpha=0.55)
            name = " / ".join(row[each] for each in headings[:-3])
            axes.annotate(
                name,
                (row[x], row[y]),
                fontsize=7.5,
                color=INK,
                xytext=(7, 5),
                textcoords="offset points",
            )
        axes.margins(0.15)
        axes.set_xlabel(x, fontsize=8, color=FAINT)
        axes.set_ylabel(y, fontsize=8, color=FAINT)

    # --- what they share -----------------------------------------------------------------

    def _style(self, axes: Any, unit: str, decimals: int | None, *, over_time: bool = True) -> None:
        axes.tick_params(colors=FAINT, labelsize=7, length=2)
        axes.grid(color=EDGE, linewidth=0.6)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: told(value, unit, decimals)))
        if over_time:
            start, end = (datetime.fromtimestamp(each, UTC) for each in (self.since, self.until))
            axes.set_xlim(start, end)
            locator = AutoDateLocator(maxticks=6)
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))

    def _nothing(self, place: dict[str, int]) -> None:
        x, y = place["x"] + place["w"] / 2, place["y"] + place["h"] / 2
        self._text(x, y, "No data", 9, FAINT, ha="center")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of traffic")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, scene(Path(folder)) as place:
        # Without its GPU: made-up GPU time would hide what the processor costs.
        lines = BESIDE.splitlines(keepends=True)
        place.beside.text = "".join(line for line in lines if "gpu" not in line)
        begun = time.time()
        drive(place, f"vector(time()) > {begun + arguments.seconds}", "gearshift_shadow_accuracy")
        ended = time.time()
        for name, text in texts().items():
            figure = Drawer(json.loads(text), place, begun, ended).draw()
            path = arguments.out / f"dashboard-{name.removesuffix('.json')}.png"
            figure.savefig(path, dpi=70, facecolor=BACK)
            plt.close(figure)
            print(path)


if __name__ == "__main__":
    main()
