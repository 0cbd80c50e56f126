"""For product people: how accurate and how quick the answers are, and what that costs."""

from __future__ import annotations

from deploy.dashboards.frame import row
from deploy.dashboards.panels import (
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    Column,
    Query,
    Scale,
    dots,
    figure,
    lines,
    rows,
)
from deploy.dashboards.queries import BY_CLASS, BY_VARIANT, MODEL, RANGE, RATE, recorded
from grafana_foundation_sdk.models import dashboard

from deploy.dashboards import frame, queries

ATTAINED = Scale("percentunit", 2, ((0.99, ORANGE), (0.999, GREEN)), base=RED, most=1)
ACCURACY = Scale("none", 3)
DEFICIT = Scale("none", 4, ((0.005, YELLOW), (0.02, RED)), least=0)
SHED = Scale("percentunit", 2, ((0.001, YELLOW), (0.05, RED)), least=0)
RATE_OF = Scale("reqps", 1, least=0)
MONEY = Scale("none", 5, least=0)
PODS = Scale("none", 1, least=0)
SECONDS = Scale("s", 2, least=0)

ATTAINMENT = recorded("service_class:gearshift_attainment:ratio_rate5m")
SERVED = recorded("service_class:gearshift_served_accuracy:mean5m")
LOAD_DEFICIT = recorded("service_class:gearshift_load_deficit:mean5m")
DEMAND = recorded("service_class:gearshift_demand:rate5m")

EVERYWHERE = 'instance!=""'

BEST = f'max by (model) (gearshift_variant_accuracy{{{MODEL}, source!="live"}})'

KEYS = {"model": "Model", "service_class": "Class"}

WANTED_WORKERS = f"sum (rate(gearshift_wanted_worker_seconds_total[{RATE}]))"
WORKERS_OF_A_POD = 'sum (gearshift_workers{device!="express"}) / count (gearshift_ready)'


def _cost_by_class(window: str) -> str:
    """Money a second: each answer at the mean cost of one of the variant that gave it."""
    per_answer = queries.share(
        queries.worker_money("model, variant", window),
        queries.answers("model, variant", window, MODEL),
    )
    by = "model, variant, service_class"
    return (
        f"sum by (model, service_class) ({queries.answers(by, window)}"
        f" * on (model, variant) group_left () ({per_answer}))"
    )


def _now() -> frame.Row:
    attainment = queries.share(
        f"sum ({recorded('service_class:gearshift_goodput:rate5m')})", f"sum ({DEMAND})"
    )
    return row(
        "Now",
        5,
        (
            4,
            figure(
                "Answered in time",
                "Attainment over the last five minutes: answers in time, of all requests that ask"
                " for one. Green from the objective of 99.9 %. What callers cancelled or asked"
                " wrongly is in neither.",
                ATTAINED,
                Query(attainment),
            ),
        ),
        (
            5,
            figure(
                "Accuracy of the answers",
                "Mean accuracy of the variants that answered in the last five minutes, in the"
                " model's own metric: compare a model with itself, not with others.",
                ACCURACY,
                Query(queries.mean_accuracy("model"), "{{model}}"),
            ),
        ),
        (
            5,
            figure(
                "Accuracy of all requests",
                "Effective accuracy: the same over all requests, with one that was refused, late or"
                " failed counted as 0. What refusing and shifting down cost together.",
                ACCURACY,
                Query(recorded("model:gearshift_effective_accuracy:mean5m", MODEL), "{{model}}"),
            ),
        ),
        (
            5,
            figure(
                "Lost for want of workers",
                "How much less accurate the answers are than their budgets would have allowed on an"
                " idle server. More pods bring exactly this back; red from where an alert begins.",
                DEFICIT,
                Query(f"max by (model) ({LOAD_DEFICIT})", "{{model}}"),
            ),
        ),
        (
            5,
            figure(
                "Money per thousand answers",
                "All CPU time of the servers and GPU time of their workers, at the prices above,"
                " over all answers of the time shown.",
                MONEY,
                Query(
                    queries.share(
                        f"1000 * {queries.money(RANGE, EVERYWHERE)}",
                        queries.answers("", RANGE, 'service_class!=""'),
                    )
                ),
            ),
        ),
    )


def _trade() -> tuple[frame.Row, ...]:
    cost = queries.share(f"1000 * {_cost_by_class(RANGE)}", queries.answers(KEYS_BY, RANGE))
    return row(
        "The trade-off: accuracy against time and money",
        11,
        (
            12,
            dots(
                "Accuracy against answers in time",
                "A dot for each class, the larger the more requests: upper right is best. One that"
                " moves left loses answers, one that moves down gives less accurate ones.",
                KEYS,
                Column("Answered in time", ATTAINMENT, ATTAINED),
                Column("Served accuracy", SERVED, ACCURACY),
                Column("Requests a second", DEMAND, RATE_OF),
            ),
        ),
        (
            12,
            dots(
                "Accuracy against cost",
                "A dot for each class: what a thousand of its answers cost in worker time at the"
                " prices above, and how accurate they are. Upper left is best.",
                KEYS,
                Column("Money per thousand answers", cost, MONEY),
                Column("Served accuracy", SERVED, ACCURACY),
                Column("Requests a second", DEMAND, RATE_OF),
            ),
        ),
    ), row(
        "Class by class",
        6,
        (
            24,
            rows(
                "Each class",
                "The same as numbers. Deficit: below the model's best variant, for whatever reason"
                " (a short budget, or load); for want of workers: the part of it that more pods"
                " would bring back. Cost: worker time of the variants that answered.",
                KEYS,
                [
                    Column("Requests a second", DEMAND, RATE_OF),
                    Column("Answered in time", ATTAINMENT, ATTAINED),
                    Column("Served accuracy", SERVED, ACCURACY),
                    Column(
                        "Deficit",
                        recorded("service_class:gearshift_accuracy_deficit:mean5m"),
                        Scale("none", 4),
                    ),
                    Column("For want of workers", LOAD_DEFICIT, DEFICIT),
                    Column(
                        "Refused for load",
                        recorded("service_class:gearshift_shed:ratio_rate5m"),
                        SHED,
                    ),
                    Column("Money per thousand answers", cost, MONEY),
                ],
                sort="Requests a second",
            ),
        ),
    )


KEYS_BY = "model, service_class"


def _over_time() -> frame.Row:
    return row(
        "Over time",
        9,
        (
            12,
            lines(
                "Answered in time, by class",
                "Attainment of each class over five minutes. The dashed lines are 99 and 99.9 %.",
                ATTAINED,
                Query(ATTAINMENT, BY_CLASS),
            ),
        ),
        (
            12,
            lines(
                "Accuracy of the answers, and the best there is",
                "What each class got, beside the accuracy of its model's best variant.",
                ACCURACY,
                Query(SERVED, BY_CLASS),
                Query(BEST, "{{model}}, best"),
            ),
        ),
        (
            12,
            lines(
                "Who answered",
                "Share of the answers by variant: where the colours shift, so does accuracy.",
                Scale("percentunit", 0),
                Query(queries.answers("model, variant"), BY_VARIANT),
                stacked=True,
                share=True,
            ),
        ),
        (
            12,
            lines(
                "Money per thousand answers, by model",
                "Worker time of each model at the prices above, over its answers. What the server"
                " itself takes is not in it; the cost dashboard has that too.",
                MONEY,
                Query(
                    queries.share(
                        f"1000 * {queries.worker_money('model')}",
                        queries.answers("model", RATE, MODEL),
                    ),
                    "{{model}}",
                ),
            ),
        ),
    )


def _more() -> frame.Row:
    return row(
        "What a pod more would bring",
        9,
        (
            8,
            lines(
                "Accuracy that more workers would bring",
                "The load deficit by class: 0 where everybody already gets the best variant that"
                " their budget allows. The autoscaler grows the fleet by it.",
                DEFICIT,
                Query(LOAD_DEFICIT, BY_CLASS),
            ),
        ),
        (
            8,
            lines(
                "Requests that more workers would answer",
                "Refused or dropped for load, of those that ask for an answer. From 5 % on an alert"
                " says so.",
                SHED,
                Query(recorded("service_class:gearshift_shed:ratio_rate5m"), BY_CLASS),
            ),
        ),
        (
            8,
            lines(
                "Pods: there are, and would give everybody their best",
                "Wanted: the worker time that the requests would have cost in the best variants"
                " that their budgets allow, in pods like those there are. Above the pods that take"
                " requests, some get less; far below, pods can go.",
                PODS,
                Query("sum (gearshift_ready)", "there are"),
                Query(f"{WANTED_WORKERS} / ({WORKERS_OF_A_POD})", "wanted"),
            ),
        ),
    )


def made() -> dashboard.Dashboard:
    return frame.composed(
        uid="gearshift-tradeoff",
        title="gearshift: accuracy, time and money",
        description="What callers get, what it costs, and what more or fewer pods would change.",
        rows=[_now(), *_trade(), _over_time(), _more()],
        variables=[frame.model(), frame.service_class(), *frame.prices()],
        since="now-6h",
    )
