"""The kinds of panels that the dashboards are made of, with one look each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from string import ascii_uppercase

from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.models import (
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
    xychart,
)

SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")

GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "text"


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and what its series are called in the legend, as `{{label}}`."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """How values are shown: Grafana's name of the unit, and from which value on which colour.

    `steps` are (value, colour), rising; below the first the colour is `base`. They are left out
    where no value is good or bad in itself.
    """

    unit: str
    decimals: int | None = None
    steps: tuple[tuple[float, str], ...] = ()
    base: str = GREEN
    least: float | None = None
    most: float | None = None
    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """What a value is called, and its colour."""

    def config(
        self, custom: object | None = None, name: str | None = None
    ) -> dashboard.FieldConfig:
        return dashboard.FieldConfig(
            display_name=name,
            unit=self.unit,
            decimals=self.decimals,
            min_val=self.least,
            max_val=self.most,
            mappings=self._mappings(),
            thresholds=self._thresholds(),
            color=dashboard.FieldColor(
                mode=dashboard.FieldColorModeId.THRESHOLDS
                if self.steps or self.words
                else dashboard.FieldColorModeId.PALETTE_CLASSIC
            ),
            custom=custom,
        )

    def properties(self) -> list[dashboard.DynamicConfigValue]:
        """The same for one column of a table."""
        made = [dashboard.DynamicConfigValue("unit", self.unit)]
        if self.decimals is not None:
            made.append(dashboard.DynamicConfigValue("decimals", self.decimals))
        if self.words:
            made.append(dashboard.DynamicConfigValue("mappings", self._mappings()))
        if self.steps or self.words:
            made.append(dashboard.DynamicConfigValue("thresholds", self._thresholds()))
            made.append(dashboard.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
        return made

    def _thresholds(self) -> dashboard.ThresholdsConfig:
        steps = [dashboard.Threshold(None, self.base)]
        steps += [dashboard.Threshold(value, color) for value, color in self.steps]
        return dashboard.ThresholdsConfig(dashboard.ThresholdsMode.ABSOLUTE, steps)

    def _mappings(self) -> list[dashboard.ValueMapping]:
        if not self.words:
            return []
        results = {
            value: dashboard.ValueMappingResult(text=text, color=color, index=index)
            for index, (value, (text, color)) in enumerate(self.words.items())
        }
        return [dashboard.ValueMap(options=results)]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: an instant query, what it is called, how it is shown."""

    name: str
    expr: str
    scale: Scale


def lines(
    title: str,
    description: str,
    scale: Scale,
    *queries: Query,
    stacked: bool = False,
    share: bool = False,
) -> dashboard.Panel:
    """Values over time; `stacked` where they add up to something, `share` of the whole then.
    Thresholds are dashed lines."""
    stacking = common.StackingMode.NONE
    if stacked:
        stacking = common.StackingMode.PERCENT if share else common.StackingMode.NORMAL
    style = common.GraphThresholdsStyleMode
    custom = timeseries.FieldConfig(
        draw_style=common.GraphDrawStyle.LINE,
        line_width=1,
        fill_opacity=30 if stacked else 5,
        show_points=common.VisibilityMode.NEVER,
        stacking=common.StackingConfig(mode=stacking, group="A"),
        thresholds_style=common.GraphThresholdsStyleConfig(
            mode=style.DASHED if scale.steps else style.OFF
        ),
    )
    config = scale.config(custom)
    # Lines are told apart by colour; thresholds have their own.
    config.color = dashboard.FieldColor(mode=dashboard.FieldColorModeId.PALETTE_CLASSIC)
    options = timeseries.Options(
        legend=common.VizLegendOptions(
            display_mode=common.LegendDisplayMode.TABLE,
            placement=common.LegendPlacement.BOTTOM,
            show_legend=True,
            calcs=["lastNotNull", "max"],
        ),
        tooltip=common.VizTooltipOptions(
            mode=common.TooltipDisplayMode.MULTI, sort=common.SortOrder.DESCENDING
        ),
    )
    return _panel("timeseries", title, description, _over_time(queries), config, options)


def figure(title: str, description: str, scale: Scale, *queries: Query) -> dashboard.Panel:
    """What holds now, as large numbers."""
    options = stat.Options(
        graph_mode=common.BigValueGraphMode.NONE,
        color_mode=common.BigValueColorMode.VALUE,
        justify_mode=common.BigValueJustifyMode.AUTO,
        text_mode=common.BigValueTextMode.AUTO,
        percent_change_color_mode=common.PercentChangeColorMode.STANDARD,
        orientation=common.VizOrientation.AUTO,
        reduce_options=common.ReduceDataOptions(values=False, calcs=["lastNotNull"], fields=""),
    )
    return _panel("stat", title, description, _now(queries), scale.config(), options)


def timeline(title: str, description: str, scale: Scale, *queries: Query) -> dashboard.Panel:
    """States over time, each with the word that `scale.words` has for it."""
    options = statetimeline.Options(
        show_value=common.VisibilityMode.AUTO,
        align_value=common.TimelineValueAlignment.LEFT,
        legend=common.VizLegendOptions(
            display_mode=common.LegendDisplayMode.LIST,
            placement=common.LegendPlacement.BOTTOM,
            show_legend=True,
            calcs=[],
        ),
        tooltip=common.VizTooltipOptions(
            mode=common.TooltipDisplayMode.SINGLE, sort=common.SortOrder.NONE
        ),
    )
    config = scale.config(statetimeline.FieldConfig())
    return _panel("state-timeline", title, description, _over_time(queries), config, options)


def rows(
    title: str,
    description: str,
    keys: Mapping[str, str],
    columns: Sequence[Column],
    *,
    sort: str,
    link: tuple[str, str, str] | None = None,
) -> dashboard.Panel:
    """A table with one row for each set of labels `keys` (label: heading) and one column for each
    query. `sort` is the heading by which it is sorted, greatest first; `link` the heading of the
    column that leads elsewhere, to which title and address."""
    options = table.Options(
        cell_height=common.TableCellHeight.SM,
        sort_by=[common.TableSortByFieldState(display_name=sort, desc=True)],
    )
    made = _panel("table", title, description, _cells(columns), dashboard.FieldConfig(), options)
    made.transformations = _merged(keys, columns)
    assert made.field_config is not None
    made.field_config.defaults.custom = common.TableFieldOptions(
        align=common.FieldTextAlignment.AUTO, cell_options=common.TableAutoCellOptions()
    )
    made.field_config.overrides = [_override(c.name, c.scale.properties()) for c in columns]
    # Only what a column of the table says: the unit of the panel as a whole is that of none.
    made.field_config.defaults.unit = "none"
    if link is not None:
        heading, told, address = link
        target = dashboard.DashboardLink(title=told, url=address, target_blank=True)
        links = dashboard.DynamicConfigValue("links", [target])
        made.field_config.overrides.append(_override(heading, [links]))
    return made


def dots(
    title: str,
    description: str,
    keys: Mapping[str, str],
    x: Column,
    y: Column,
    size: Column,
    *,
    logarithmic: bool = False,
) -> dashboard.Panel:
    """One dot for each set of labels `keys`, each named by the last of them; `logarithmic` on x."""
    columns = (x, y, size)
    heading = list(keys.values())[-1]
    by_name = "byName"

    def at(column: Column) -> xychart.MatcherConfig:
        return xychart.MatcherConfig(by_name, column.name)

    series = xychart.XYSeriesConfig(
        x=xychart.XychartXYSeriesConfigX(at(x)),
        y=xychart.XychartXYSeriesConfigY(at(y)),
        size=xychart.XychartXYSeriesConfigSize(at(size)),
    )
    options = xychart.Options(
        # Every frame gets the series, and there is a frame for each dot: named and coloured.
        mapping=xychart.SeriesMapping.AUTO,
        series=[series],
        legend=common.VizLegendOptions(
            display_mode=common.LegendDisplayMode.LIST,
            placement=common.LegendPlacement.RIGHT,
            show_legend=True,
            calcs=[],
        ),
        tooltip=common.VizTooltipOptions(
            mode=common.TooltipDisplayMode.SINGLE, sort=common.SortOrder.NONE
        ),
    )
    custom = xychart.FieldConfig(
        show=xychart.XYShowMode.POINTS,
        point_size=xychart.XychartFieldConfigPointSize(fixed=8, min_val=6, max_val=40),
        fill_opacity=50,
    )
    config = replace(y.scale, steps=()).config(custom)
    made = _panel("xychart", title, description, _cells(columns), config, options)
    made.transformations = [
        *_merged(keys, columns),
        dashboard.DataTransformerConfig(
            id_val="partitionByValues",
            options={
                "fields": list(keys.values()),
                "keepFields": True,
                "naming": {"asLabels": True},
            },
        ),
    ]
    assert made.field_config is not None
    properties = [
        *replace(x.scale, steps=()).properties(),
        dashboard.DynamicConfigValue("custom.axisLabel", x.name),
    ]
    if logarithmic:
        scale = {"type": "log", "log": 10}
        properties.append(dashboard.DynamicConfigValue("custom.scaleDistribution", scale))
    named = f"${{__field.labels.{heading}}}"
    made.field_config.overrides = [
        _override(x.name, properties),
        _override(
            y.name,
            [
                dashboard.DynamicConfigValue("displayName", named),
                dashboard.DynamicConfigValue("custom.axisLabel", y.name),
            ],
        ),
        _override(size.name, replace(size.scale, steps=()).properties()),
    ]
    return made


def _panel(
    kind: str,
    title: str,
    description: str,
    targets: list[variants.Dataquery],
    config: dashboard.FieldConfig,
    options: object,
) -> dashboard.Panel:
    return dashboard.Panel(
        type_val=kind,
        title=title,
        description=description,
        datasource=SOURCE,
        targets=targets,
        options=options,
        field_config=dashboard.FieldConfigSource(defaults=config, overrides=[]),
    )


def _over_time(queries: Sequence[Query]) -> list[variants.Dataquery]:
    return [
        prometheus.Dataquery(
            expr=query.expr, legend_format=query.legend, ref_id=name, range_val=True, instant=False
        )
        for name, query in zip(ascii_uppercase, queries, strict=False)
    ]


def _now(queries: Sequence[Query]) -> list[variants.Dataquery]:
    return [
        prometheus.Dataquery(
            expr=query.expr, legend_format=query.legend, ref_id=name, instant=True, range_val=False
        )
        for name, query in zip(ascii_uppercase, queries, strict=False)
    ]


def _cells(columns: Sequence[Column]) -> list[variants.Dataquery]:
    return [
        prometheus.Dataquery(
            expr=column.expr,
            ref_id=name,
            instant=True,
            range_val=False,
            format_val=prometheus.PromQueryFormat.TABLE,
        )
        for name, column in zip(ascii_uppercase, columns, strict=False)
    ]


def _merged(
    keys: Mapping[str, str], columns: Sequence[Column]
) -> list[dashboard.DataTransformerConfig]:
    """One table of all queries, with the headings in their order."""
    named = dict(keys)
    for name, column in zip(ascii_uppercase, columns, strict=False):
        # The only query of a panel has no letter.
        named["Value" if len(columns) == 1 else f"Value #{name}"] = column.name
    organized = {
        "excludeByName": {"Time": True},
        "indexByName": {each: index for index, each in enumerate(named)},
        "renameByName": named,
    }
    return [
        dashboard.DataTransformerConfig(id_val="merge", options={}),
        dashboard.DataTransformerConfig(id_val="organize", options=organized),
    ]


def _override(
    heading: str, properties: list[dashboard.DynamicConfigValue]
) -> dashboard.DashboardFieldConfigSourceOverrides:
    matcher = dashboard.MatcherConfig("byName", heading)
    return dashboard.DashboardFieldConfigSourceOverrides(matcher, properties)
