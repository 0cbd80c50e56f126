"""The row of the on-call dashboard about what breaks and what callers overdo."""

from __future__ import annotations

from deploy.dashboards.frame import Row, row
from deploy.dashboards.panels import GREEN, ORANGE, RED, YELLOW, Query, Scale, lines, timeline
from deploy.dashboards.queries import BY_VARIANT, MODEL, POD, rate

BY_PORT = "{{instance}} {{port}}"
DAY = 86_400


def row_of_faults() -> Row:
    of = f"{MODEL}, {POD}"
    return row(
        "Faults and limits",
        8,
        (
            8,
            timeline(
                "Circuit breakers",
                "The worst of all pods. Open: the variant keeps failing and is out of service; half"
                " open: one run tries it. Its callers get another variant, or UNAVAILABLE.",
                Scale(
                    "none",
                    words={
                        "0": ("closed", GREEN),
                        "1": ("half open", YELLOW),
                        "2": ("open", RED),
                    },
                ),
                Query(f"max by (model, variant) (gearshift_breaker_state{{{of}}})", BY_VARIANT),
            ),
        ),
        (
            8,
            lines(
                "Second chances",
                "Requests that this variant failed, a second: answered by another one, or failed in"
                " the end. Above 0 something breaks, and callers may not notice yet.",
                Scale("reqps", least=0),
                Query(
                    rate("gearshift_second_chances_total", of, "model, variant, result"),
                    f"{BY_VARIANT} {{{{result}}}}",
                ),
            ),
        ),
        (
            8,
            lines(
                "Workers lost within an hour",
                "By pod: their run hung, or their process crashed. From two on there is a ticket.",
                Scale("none", 0, ((2, ORANGE),), least=0),
                Query(
                    "sum by (instance, reason)"
                    f" (increase(gearshift_workers_lost_total{{{POD}}}[1h]))",
                    "{{instance}} {{reason}}",
                ),
            ),
        ),
        (
            8,
            lines(
                "Reloads within an hour",
                "Models that were looked at again, by what became of them. A failed one changes"
                " nothing; its reasons stand in the log.",
                Scale("none", 0, least=0),
                Query(
                    f"sum by (result) (increase(gearshift_reloads_total{{{of}}}[1h]))", "{{result}}"
                ),
            ),
        ),
        (
            8,
            lines(
                "Generations that hold memory",
                "Of each model, at the pod with most. Two while an old one ends its work; for an"
                " hour, and something hangs.",
                Scale("none", 0, ((2, YELLOW),), least=0),
                Query(f"max by (model) (gearshift_generations{{{of}}})", "{{model}}"),
            ),
        ),
        (
            8,
            lines(
                "Refused at the door",
                "Over a quota, retries while much is shed, calls without credentials or rights."
                " None of them costs the others anything; many of one kind are a caller to talk"
                " to, or an attack.",
                Scale("reqps", least=0),
                Query(
                    rate("gearshift_quota_refused_total", POD, "client"), "over quota {{client}}"
                ),
                Query(rate("gearshift_retries_refused_total", POD), "retries"),
                Query(rate("gearshift_denied_total", POD, "reason"), "{{reason}}"),
            ),
        ),
        (
            8,
            lines(
                "Limits that were reached",
                "By the setting that each is, a second; connections that were refused among them."
                " Steadily above 0: a caller overdoes it, or the limit is too low by now.",
                Scale("cps", least=0),
                Query(rate("gearshift_limit_reached_total", POD, "limit"), "{{limit}}"),
                Query(rate("gearshift_connections_refused_total", POD, "reason"), "{{reason}}"),
            ),
        ),
        (
            8,
            lines(
                "Bytes kept for callers",
                "Of requests that are not complete (incoming), of inputs that wait or run"
                " (waiting), of answers that nobody reads (unread), by all pods. Each has a limit.",
                Scale("bytes", least=0),
                Query(f"sum by (what) (gearshift_bytes_held{{{POD}}})", "{{what}}"),
            ),
        ),
        (
            8,
            lines(
                "Open connections, by pod",
                "To both ports. One pod with most of them: callers that do not balance.",
                Scale("none", 0, least=0),
                Query(f"sum by (instance, port) (gearshift_connections{{{POD}}})", BY_PORT),
            ),
        ),
        (
            8,
            lines(
                "Time until the certificate expires",
                "Of the server's own TLS; nothing where something before it speaks TLS. A ticket"
                " below 14 days, a page below two: then all callers are turned away.",
                Scale("s", 0, ((2 * DAY, ORANGE), (14 * DAY, GREEN)), base=RED),
                Query(
                    "min by (instance)"
                    f" (gearshift_certificate_expiry_timestamp_seconds{{{POD}}} - time ())",
                    "{{instance}}",
                ),
            ),
        ),
    )
