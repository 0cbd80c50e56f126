"""Which servers there are, and how they are: part of the dashboard for who is on call."""

from __future__ import annotations

from deploy.dashboards.frame import row
from deploy.dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    Column,
    Query,
    Scale,
    figure,
    rows,
    timeline,
)
from deploy.dashboards.queries import POD, RANGE

from deploy.dashboards import frame

SCRAPED = "on (job, instance) last_over_time(gearshift_build_info[1d])"
"""What has been a gearshift server within a day."""

COUNT = Scale("none", 0)
BAD = Scale("none", 0, ((1, RED),), least=0)
PODS = Scale("none", 0, ((1, GREEN),), base=RED)


def row_of_pods() -> frame.Row:
    """How many are ready, drain, are gone; and each of them."""
    restarts = (
        f"sum (changes(process_start_time_seconds[{RANGE}]) and {SCRAPED})"
        f" + (sum (increase(gearshift_processes_replaced_total[{RANGE}])) or vector(0))"
    )
    return row(
        "Pods",
        6,
        (
            3,
            figure(
                "Take requests", "Pods that are ready now.", PODS, Query("sum (gearshift_ready)")
            ),
        ),
        (
            3,
            figure(
                "Drain",
                "Pods that finish what they have and take nothing new.",
                Scale("none", 0, ((1, BLUE),), base=GREY),
                Query("count (gearshift_drain_seconds > 0) or vector(0)"),
            ),
        ),
        (
            3,
            figure(
                "Give no metrics",
                "Targets that were gearshift within a day and do not answer Prometheus.",
                BAD,
                Query(f"count (up == 0 and {SCRAPED}) or vector(0)"),
            ),
        ),
        (
            3,
            figure(
                "Restarts",
                "In the time shown: servers that began anew at the same address, and serving"
                " processes that died and were replaced.",
                Scale("none", 0, ((1, ORANGE), (3, RED)), least=0),
                Query(restarts),
            ),
        ),
        (
            3,
            figure(
                "Catalogs",
                "Different model repositories that are served now. More than one is a rollout, or"
                " a mistake if it stays.",
                Scale("none", 0, ((2, ORANGE),)),
                Query("count (count by (digest) (gearshift_catalog_info))"),
            ),
        ),
        (
            9,
            rows(
                "Each pod",
                "Ready or not, how long it has been draining, which generation of its catalog it"
                " serves, how long it runs, how much memory it has.",
                {"instance": "Pod"},
                [
                    Column(
                        "Ready",
                        f"max by (instance) (gearshift_ready{{{POD}}})",
                        Scale("none", words={"0": ("no", RED), "1": ("yes", GREEN)}),
                    ),
                    Column(
                        "Draining",
                        f"max by (instance) (gearshift_drain_seconds{{{POD}}})",
                        Scale("s", 0, ((1, BLUE),), base=GREY),
                    ),
                    Column(
                        "Generation",
                        f"max by (instance) (gearshift_catalog_generation{{{POD}}})",
                        COUNT,
                    ),
                    Column(
                        "Up for",
                        f"max by (instance) (time() - process_start_time_seconds{{{POD}}}"
                        " and on (job, instance) gearshift_build_info)",
                        Scale("s", 0),
                    ),
                    Column(
                        "Memory",
                        f"max by (instance) (process_resident_memory_bytes{{{POD}}}"
                        " and on (job, instance) gearshift_build_info)",
                        Scale("bytes", 0),
                    ),
                ],
                sort="Up for",
            ),
        ),
        (
            12,
            timeline(
                "Pods over time",
                "When each pod took requests.",
                Scale("none", words={"0": ("not ready", ORANGE), "1": ("ready", GREEN)}),
                Query(f"max by (instance) (gearshift_ready{{{POD}}})", "{{instance}}"),
            ),
        ),
        (
            12,
            timeline(
                "Feedback",
                "Whether the feedback database fails: labels are refused then, and accuracies stay"
                " as they were.",
                Scale("none", words={"0": ("well", GREEN), "1": ("fails", RED)}),
                Query("max by (what) (gearshift_feedback_failing)", "{{what}}"),
            ),
        ),
    )
