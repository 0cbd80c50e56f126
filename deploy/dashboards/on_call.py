"""For who is on call: what is wrong, where, and since when."""

from __future__ import annotations

from deploy.dashboards.frame import RUNBOOKS, row
from deploy.dashboards.panels import (
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    Column,
    Query,
    Scale,
    figure,
    lines,
    rows,
    timeline,
)
from deploy.dashboards.queries import (
    BY_CLASS,
    BY_VARIANT,
    CLASS,
    MODEL,
    POD,
    recorded,
)
from grafana_foundation_sdk.models import dashboard

from deploy.dashboards import faults, frame, pods, queries

OURS = 'alertname=~"Gearshift.+"'

BURN = Scale("none", 2, ((1, YELLOW), (6, ORANGE), (14.4, RED)), least=0)
COUNT = Scale("none", 0)
BAD = Scale("none", 0, ((1, RED),), least=0)
SECONDS = Scale("s", 3)


def _burn(window: str) -> str:
    attained = recorded(f"service_class:gearshift_attainment:ratio_rate{window}")
    objective = recorded("service_class:gearshift_attainment:objective")
    return f"(1 - {attained}) / (1 - {objective})"


def _firing(severity: str) -> str:
    return f'count (ALERTS{{{OURS}, alertstate="firing", severity="{severity}"}}) or vector(0)'


def _wrong() -> frame.Row:
    since = (
        f"1000 * (ALERTS_FOR_STATE{{{OURS}}} * ignoring (alertstate) group_right ()"
        f" ALERTS{{{OURS}}})"
    )
    keys = {
        "alertname": "Alert",
        "severity": "Severity",
        "alertstate": "State",
        "model": "Model",
        "service_class": "Class",
        "variant": "Variant",
        "instance": "Pod",
    }
    return row(
        "What is wrong",
        7,
        (
            4,
            figure(
                "Alerts that fire",
                "By severity. A page: callers lose answers now. A ticket: somebody should look this"
                " day. An info is news.",
                BAD,
                Query(_firing("page"), "page"),
                Query(_firing("ticket"), "ticket"),
                Query(_firing("info"), "info"),
            ),
        ),
        (
            20,
            rows(
                "Alerts, and since when",
                "Those that fire and those that may soon (pending). The name of an alert leads to"
                " its runbook. Empty: nothing is wrong.",
                keys,
                [Column("Since", since, Scale("dateTimeAsIso"))],
                sort="Since",
                link=("Alert", "Runbook", f"{RUNBOOKS}/${{__value.raw}}.md"),
            ),
        ),
        (
            24,
            timeline(
                "Alerts over time",
                "When each alert was pending and when it fired.",
                Scale("none", words={"1": ("pending", YELLOW), "2": ("firing", RED)}),
                Query(
                    "max by (alertname, model, service_class, variant, instance)"
                    f' (ALERTS{{{OURS}, alertstate="pending"}}'
                    f' or 2 * ALERTS{{{OURS}, alertstate="firing"}})',
                    "{{alertname}} {{model}} {{service_class}} {{variant}} {{instance}}",
                ),
            ),
        ),
    )


def _objectives() -> frame.Row:
    keys = {"model": "Model", "service_class": "Class"}
    return row(
        "Who loses answers, and how",
        9,
        (
            10,
            rows(
                "Burn rates",
                "How fast each class uses up what its objective allows: 1 is exactly as much as"
                " allowed, 14.4 for an hour wakes somebody.",
                keys,
                [
                    Column("5 min", _burn("5m"), BURN),
                    Column("1 h", _burn("1h"), BURN),
                    Column("6 h", _burn("6h"), BURN),
                    Column("1 day", _burn("1d"), BURN),
                    Column("3 days", _burn("3d"), BURN),
                ],
                sort="5 min",
            ),
        ),
        (
            14,
            lines(
                "Burn rate over an hour",
                "The dashed lines: 1 is as much as allowed, 6 over six hours and 14.4 over one hour"
                " wake somebody.",
                BURN,
                Query(_burn("1h"), BY_CLASS),
            ),
        ),
        (
            12,
            lines(
                "Requests by how they ended",
                "Refused for load (shed), too late (late, expired), broken (failed); infeasible,"
                " invalid and cancelled are the caller's doing, as far as one can tell.",
                Scale("reqps"),
                Query(
                    queries.rate("gearshift_requests_total", f"{CLASS}, {POD}", "outcome"),
                    "{{outcome}}",
                ),
                stacked=True,
            ),
        ),
        (
            12,
            lines(
                "Lost answers by pod",
                "Late, shed, expired and failed ones: one pod alone has another cause than all.",
                Scale("reqps"),
                Query(
                    queries.rate(
                        "gearshift_requests_total",
                        f"{CLASS}, {POD}, {queries.UNATTAINED}",
                        "instance",
                    ),
                    "{{instance}}",
                ),
            ),
        ),
    )


def _time() -> frame.Row:
    by = "model, service_class"
    of = f"{CLASS}, {POD}"
    return row(
        "Queue and time",
        8,
        (
            8,
            lines(
                "Requests that wait",
                "By class, over all pods. A queue that stays is load; one that grows ends in"
                " refusals.",
                COUNT,
                Query(f"sum by ({by}) (gearshift_queue_depth{{{of}}})", BY_CLASS),
            ),
        ),
        (
            8,
            lines(
                "Time left at the end, worst 5 %",
                "Deadline minus the end of the request, of the twentieth with the least. Below 0"
                " they are late.",
                Scale("s", 3, ((0, GREEN),), base=RED),
                Query(queries.quantile(0.05, "gearshift_slack_seconds", of, by), BY_CLASS),
            ),
        ),
        (
            8,
            lines(
                "Time from arrival to answer, p99",
                "Of what was taken in, by class.",
                SECONDS,
                Query(
                    queries.quantile(0.99, "gearshift_request_duration_seconds", of, by), BY_CLASS
                ),
            ),
        ),
        (
            8,
            lines(
                "Wait before it ran, p99",
                "The part of it that was queue.",
                SECONDS,
                Query(queries.quantile(0.99, "gearshift_queue_duration_seconds", of, by), BY_CLASS),
            ),
        ),
        (
            8,
            lines(
                "Workers in use, by pod",
                "Share of the worker time that was spent on batches. High is not bad: a server that"
                " gives everybody the best variant is busy.",
                Scale("percentunit", 0, least=0),
                Query(
                    queries.rate("gearshift_worker_busy_seconds_total", POD, "instance")
                    + f" / sum by (instance) (gearshift_workers{{{POD}}})",
                    "{{instance}}",
                ),
            ),
        ),
        (
            8,
            lines(
                "CPU in use, by pod",
                "Cores that all processes of a pod use. At its limit the kernel takes time away,"
                " and predictions fail.",
                Scale("none", 2, least=0),
                Query(queries.cpu_seconds("instance"), "{{instance}}"),
            ),
        ),
    )


def _variants() -> frame.Row:
    failed = queries.share(
        queries.rate("gearshift_runs_total", f'{MODEL}, {POD}, ended="failed"', "model, variant"),
        queries.rate("gearshift_runs_total", f"{MODEL}, {POD}", "model, variant"),
    )
    beyond = queries.share(
        queries.rate(
            "gearshift_runs_total", f'{MODEL}, {POD}, ended="beyond_p99"', "model, variant"
        ),
        queries.rate("gearshift_runs_total", f'{MODEL}, {POD}, ended!="failed"', "model, variant"),
    )
    return row(
        "Variants and inputs",
        8,
        (
            8,
            lines(
                "Runs that fail",
                "Of each variant's batches; their callers get INTERNAL. An alert from 5 % on.",
                Scale("percentunit", 2, ((0.05, RED),), least=0),
                Query(failed, BY_VARIANT),
            ),
        ),
        (
            8,
            lines(
                "Runs beyond their predicted p99",
                "1 % is right. More: the machine is starved, or the variant slower than learned;"
                " an alert from 20 % on.",
                Scale("percentunit", 2, ((0.2, RED),), least=0),
                Query(beyond, BY_VARIANT),
            ),
        ),
        (
            8,
            lines(
                "Drift of the inputs",
                "Population stability index of the feature that moved furthest, against the"
                " held-out samples. From 0.25 on inputs are said to have drifted.",
                Scale("none", 2, ((0.1, YELLOW), (0.25, RED)), least=0),
                Query(f"max by (model) (gearshift_input_drift{{{MODEL}}})", "{{model}}"),
            ),
        ),
        (
            12,
            timeline(
                "Variants below their card",
                "Labels show a variant to be certainly less accurate than measured: it gets fewer"
                " requests by itself, and somebody should know why.",
                Scale("none", words={"0": ("as measured", GREEN), "1": ("fallen", RED)}),
                Query(f"max by (model, variant) (gearshift_variant_fallen{{{MODEL}}})", BY_VARIANT),
            ),
        ),
        (
            12,
            lines(
                "Features that moved furthest",
                "The five with the greatest index now.",
                Scale("none", 2, ((0.1, YELLOW), (0.25, RED)), least=0),
                Query(
                    f"topk (5, max by (model, feature) (gearshift_input_drift_psi{{{MODEL}}}))",
                    "{{model}} / {{feature}}",
                ),
            ),
        ),
    )


def made() -> dashboard.Dashboard:
    return frame.composed(
        uid="gearshift-on-call",
        title="gearshift: on call",
        description="What is wrong, where, since when; every alert leads to its runbook.",
        rows=[
            _wrong(),
            _objectives(),
            _time(),
            _variants(),
            faults.row_of_faults(),
            pods.row_of_pods(),
        ],
        variables=[frame.model(), frame.service_class(), frame.instance()],
        since="now-3h",
        refresh="30s",
    )
