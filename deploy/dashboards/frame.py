"""What all dashboards have in common: variables, links to each other, annotations, layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.dashboards.panels import SOURCE
from grafana_foundation_sdk.models import dashboard

TAG = "gearshift"
WIDTH = 24
"""Columns of Grafana's grid."""

RUNBOOKS = "https://runbooks.example/gearshift"
"""Where docs/runbooks is published: the chart, or whoever loads the files as they are, replaces
this text by an address that people can open."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A panel with its width in columns."""

    panel: dashboard.Panel
    width: int


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and what stands below it, all of one height (units of about 30 pixels); what does
    not fit beside the others stands on the next line."""

    title: str
    height: int
    panels: tuple[Placed, ...]


def row(title: str, height: int, *panels: tuple[int, dashboard.Panel]) -> Row:
    """Each panel with its width before it."""
    return Row(title, height, tuple(Placed(panel, width) for width, panel in panels))


def composed(
    *,
    uid: str,
    title: str,
    description: str,
    rows: Sequence[Row],
    variables: Sequence[dashboard.VariableModel],
    since: str,
    refresh: str = "1m",
) -> dashboard.Dashboard:
    """The whole dashboard; `since` is where its time begins, such as `now-6h`."""
    return dashboard.Dashboard(
        uid=uid,
        title=title,
        description=description,
        tags=[TAG],
        timezone="browser",
        editable=False,
        graph_tooltip=dashboard.DashboardCursorSync.CROSSHAIR,
        time=dashboard.DashboardDashboardTime(from_val=since, to="now"),
        refresh=refresh,
        panels=_laid_out(rows),
        templating=dashboard.DashboardDashboardTemplating(
            list_val=[_lean(each) for each in (source(), *variables)]
        ),
        annotations=dashboard.AnnotationContainer(list_val=[_alerts()]),
        links=[
            dashboard.DashboardLink(
                title="gearshift",
                type_val=dashboard.DashboardLinkType.DASHBOARDS,
                icon="external link",
                tags=[TAG],
                include_vars=True,
                keep_time=True,
            ),
            dashboard.DashboardLink(
                title="Runbooks",
                type_val=dashboard.DashboardLinkType.LINK,
                icon="doc",
                url=f"{RUNBOOKS}/README.md",
                target_blank=True,
            ),
        ],
    )


def _laid_out(rows: Sequence[Row]) -> list[dashboard.Panel | dashboard.RowPanel]:
    placed: list[dashboard.Panel | dashboard.RowPanel] = []
    number, y = 1, 0
    for each in rows:
        heading = dashboard.GridPos(h=1, w=WIDTH, x=0, y=y)
        placed.append(dashboard.RowPanel(title=each.title, grid_pos=heading, id_val=number))
        number, y, x = number + 1, y + 1, 0
        for member in each.panels:
            if x + member.width > WIDTH:
                x, y = 0, y + each.height
            panel = member.panel
            panel.id_val = number
            panel.grid_pos = dashboard.GridPos(h=each.height, w=member.width, x=x, y=y)
            placed.append(panel)
            number, x = number + 1, x + member.width
        y += each.height
    return placed


def source() -> dashboard.VariableModel:
    """Which Prometheus."""
    return dashboard.VariableModel(
        type_val=dashboard.VariableType.DATASOURCE,
        name="datasource",
        label="Prometheus",
        query="prometheus",
        refresh=dashboard.VariableRefresh.ON_DASHBOARD_LOAD,
    )


def chosen(
    name: str, label: str, series: str, *, of: str = "", several: bool = True
) -> dashboard.VariableModel:
    """A label's values to choose from, those in `series` that match `of`; all at first where
    `several` may be chosen."""
    matching = f"{series}{{{of}}}" if of else series
    everything = dashboard.VariableOption(text=["All"], value=["$__all"])
    return dashboard.VariableModel(
        type_val=dashboard.VariableType.QUERY,
        name=name,
        label=label,
        datasource=SOURCE,
        query={"query": f"label_values({matching}, {name})", "refId": name},
        refresh=dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED,
        sort=dashboard.VariableSort.ALPHABETICAL_ASC,
        multi=several,
        include_all=several,
        # Not `.*`: what was refused before its model was known has an empty name.
        all_value=".+" if several else None,
        current=everything if several else None,
    )


def _lean(variable: dashboard.VariableModel) -> dashboard.VariableModel:
    """Without what only variables of intervals have."""
    variable.auto = variable.auto_min = variable.auto_count = None
    return variable


def model(*, several: bool = True) -> dashboard.VariableModel:
    return chosen("model", "Model", "gearshift_variant_artifact_bytes", several=several)


def service_class() -> dashboard.VariableModel:
    series = "gearshift_queue_depth"
    return chosen("service_class", "Class", series, of='model=~"$model", service_class!=""')


def instance() -> dashboard.VariableModel:
    return chosen("instance", "Pod", "gearshift_build_info")


def text(name: str, label: str, value: str, description: str) -> dashboard.VariableModel:
    """Something that is typed in, with what stands there at first."""
    option = dashboard.VariableOption(selected=True, text=value, value=value)
    return dashboard.VariableModel(
        type_val=dashboard.VariableType.TEXTBOX,
        name=name,
        label=label,
        description=description,
        query=value,
        current=option,
        options=[option],
    )


def prices() -> list[dashboard.VariableModel]:
    return [
        text(
            *("cpu_hour", "Price of a CPU hour", "0.04"),
            "What one core costs for an hour, in any currency: all money here is in it.",
        ),
        text(
            *("gpu_hour", "Price of a GPU hour", "2.50"),
            "What one GPU costs for an hour; with several workers on a GPU, that divided by them.",
        ),
    ]


def _alerts() -> dashboard.AnnotationQuery:
    return dashboard.AnnotationQuery(
        name="Firing alerts",
        datasource=SOURCE,
        enable=True,
        icon_color="red",
        expr='ALERTS{alertname=~"Gearshift.+", alertstate="firing", severity="page"}',
    )
